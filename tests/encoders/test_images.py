"""Pictures: every mode becomes RGB, every EXIF rotation upright, every bad file one line."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from fli2moe.encoders.images import open_picture, stored_box, stored_orientation
from fli2moe.errors import InputError


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def saved(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)
    return path


def with_orientation(picture: Image.Image, orientation: int, path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture, path, exif=exif)


def bomb(path: Path, width: int, height: int) -> Path:
    """Writes a PNG whose header promises width x height pixels, without the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.tiff", "a.gif", "a.jpg"])
def test_every_format_opens_as_rgb(tmp_path: Path, name: str) -> None:
    picture = open_picture(saved(noise(), tmp_path / name))
    assert (picture.mode, picture.size) == ("RGB", (40, 30))


def test_str_path_and_picture_agree(tmp_path: Path) -> None:
    path = saved(noise(), tmp_path / "a.png")
    expected = np.asarray(noise())
    for source in (path, str(path), noise()):
        assert np.array_equal(np.asarray(open_picture(source)), expected)


def test_the_users_own_picture_is_never_handed_out() -> None:
    mine = noise()
    opened = open_picture(mine)
    opened.paste((0, 0, 0), (0, 0, 40, 30))
    assert np.array_equal(np.asarray(mine), np.asarray(noise()))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_exif_rotation_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = noise().resize((160, 120))
    path = with_orientation(stored, orientation, tmp_path / f"a.{suffix}")
    upright = open_picture(path)
    assert stored_orientation(path) == orientation
    assert upright.size == ((160, 120) if orientation < 5 else (120, 160))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.info["exif"] = exif.tobytes()
    expected = np.asarray(ImageOps.exif_transpose(stored), dtype=float)
    assert np.abs(np.asarray(upright) - expected).mean() < (0.1 if suffix in "png tiff" else 20)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 12), st.data())
def test_stored_box_cuts_the_same_pixels(
    orientation: int, width: int, height: int, data: st.DataObject
) -> None:
    stored = noise(width, height)
    exif = Image.Exif()
    exif[0x0112] = orientation
    tagged = stored.copy()
    tagged.info["exif"] = exif.tobytes()
    upright = open_picture(tagged)
    x0 = data.draw(st.integers(0, upright.width - 1))
    y0 = data.draw(st.integers(0, upright.height - 1))
    x1 = data.draw(st.integers(x0 + 1, upright.width))
    y1 = data.draw(st.integers(y0 + 1, upright.height))
    box = stored_box((x0, y0, x1, y1), upright.size, orientation)
    piece = stored.crop(tuple(round(v) for v in box))
    piece.info["exif"] = exif.tobytes()
    turned = ImageOps.exif_transpose(piece)
    assert np.array_equal(np.asarray(turned), np.asarray(upright.crop((x0, y0, x1, y1))))


def test_stored_box_refuses_an_unknown_orientation() -> None:
    with pytest.raises(InputError, match="orientation"):
        stored_box((0, 0, 1, 1), (2, 2), 9)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tiff"):
        pixels = np.asarray(open_picture(saved(Image.fromarray(ramp), tmp_path / name)))
        assert abs(pixels.mean() - 127.5) < 0.5
        assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32), 127.5),
        (np.linspace(0, 255, 256, dtype=np.float32), 127.5),
        (np.linspace(0, 1000, 256, dtype=np.float32), 500 / 257),
        (np.linspace(-1, 1, 256, dtype=np.float32), 127.5),
        (np.arange(256, dtype=np.int32), 127.5),
        (np.arange(256, dtype=np.int32) * 257, 127.5),
        (np.arange(256, dtype=np.int32) * 1_000_000, 127.5),
        (np.full(256, -7.0, dtype=np.float32), 0.0),
    ],
)
def test_deep_grey_follows_the_documented_rule(
    tmp_path: Path, values: np.ndarray, mean: float
) -> None:
    path = saved(Image.fromarray(values.reshape(16, 16)), tmp_path / "a.tiff")
    assert abs(np.asarray(open_picture(path)).mean() - mean) < 0.6


def test_nan_pixels_are_an_error(tmp_path: Path) -> None:
    values = np.full((4, 4), np.nan, dtype=np.float32)
    with pytest.raises(InputError, match="NaN"):
        open_picture(saved(Image.fromarray(values), tmp_path / "a.tiff"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_the_background(tmp_path: Path, mode: str) -> None:
    clear = Image.new(mode, (4, 4), 0)
    assert open_picture(saved(clear, tmp_path / "a.png")).getpixel((1, 1)) == (255, 255, 255)


def test_transparent_palette_and_colour_key(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 1)
    opened = open_picture(saved(palette, tmp_path / "a.png", transparency=0))
    assert opened.getpixel((0, 0)) == (40, 50, 60)
    assert opened.getpixel((1, 1)) == (255, 255, 255)
    keyed = Image.new("RGB", (4, 4), (9, 9, 9))
    opened = open_picture(saved(keyed, tmp_path / "b.png", transparency=(9, 9, 9)))
    assert opened.getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    assert open_picture(saved(white, tmp_path / f"a.{suffix}")).getpixel((1, 1)) == (255,) * 3
    assert open_picture(white).getpixel((1, 1)) == (255,) * 3


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.png", "a.webp"):
        path = saved(frames[0], tmp_path / name, save_all=True, append_images=frames[1:])
        red, green, blue = open_picture(path).getpixel((1, 1))
        assert red > 240
        assert green < 15
        assert blue < 15


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes_open(tmp_path: Path, size: tuple[int, int]) -> None:
    assert open_picture(saved(Image.new("RGB", size), tmp_path / "a.png")).size == size


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.tiff", "a.bmp"])
def test_a_truncated_file_is_damaged(tmp_path: Path, name: str) -> None:
    path = saved(noise(200, 200), tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError) as caught:
        open_picture(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_png_checksum_is_damaged(tmp_path: Path) -> None:
    path = saved(noise(), tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        open_picture(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"not a picture at all\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"\x00\x00\x00\x18ftypheic", "HEIC"),
        (b"\xff\x00\x13\x99" * 9, "no picture of a known format"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=named) as caught:
        open_picture(path)
    assert caught.value.expected.startswith("a picture")


@pytest.mark.parametrize("size", [(10_000, 10_000), (30_000, 30_000)])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="pixels"):
        open_picture(bomb(tmp_path / "a.png", *size))


def test_max_pixels_is_an_argument() -> None:
    with pytest.raises(InputError, match="at most 100 pixels"):
        open_picture(noise(), max_pixels=100)


def test_paths_that_are_no_files_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    cases = {
        tmp_path / "pipe.png": "named pipe",
        Path("/dev/zero"): "device",
        tmp_path: "folder",
        tmp_path / "missing.png": "no such file",
        tmp_path / "dangling.png": "no such file",
        tmp_path / ("x" * 5000): "unusable path",
        "a\0b.png": "unusable path",
    }
    for source, named in cases.items():
        with pytest.raises(InputError, match=named):
            open_picture(source)
        with pytest.raises(InputError, match=named):
            stored_orientation(source)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
def test_random_damage_never_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    noise(16, 12).save(buffer, kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert open_picture(path, max_pixels=100_000).mode == "RGB"


def test_an_animation_of_many_frames_costs_one(tmp_path: Path) -> None:
    frames = [Image.new("P", (64, 64), k % 2) for k in range(3000)]
    path = tmp_path / "long.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], optimize=False)
    tracemalloc.start()
    assert open_picture(path).size == (64, 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_huge_metadata_is_bounded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "huge"
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("note", "x" * 200_000_000, zip=True)  # 200 kB in the file
        noise(16, 12).save(path, kind, pnginfo=info)
    else:
        noise(16, 12).save(path, kind, icc_profile=b"x" * 10_000_000)
    tracemalloc.start()
    with contextlib.suppress(InputError):  # refused, or opened without it
        assert open_picture(path).size == (16, 12)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000
