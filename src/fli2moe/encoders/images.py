"""Pictures as they come: checked from the header, decoded whole, upright, RGB, or one clear line.

A picture's spans are boxes of the *upright raw* picture: its own pixels, turned the way a viewer
shows it. `stored_box` undoes the EXIF rotation for whoever needs the pixels as the file stores
them.
"""

from __future__ import annotations

import stat
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fli2moe.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The file formats that are opened; a decoder that is not needed is not exposed to bad files."""

MAX_PIXELS = 64_000_000
"""Above this a picture is refused from its header: a 12 kB file can decode to gigabytes."""

BACKGROUND = (255, 255, 255)
"""What shows through where a picture is transparent."""

# What Pillow's decoders raise on damaged files, besides its own UnidentifiedImageError (OSError).
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    AttributeError,
    Image.DecompressionBombError,
)

_SIGNATURES = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the picture itself"),
)


def open_picture(source: str | Path | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens a picture as upright RGB, decoded whole.

    The first frame of an animation is taken. Transparent pixels are laid on `BACKGROUND`. 16-bit
    grey 0..65535 becomes 0..255; 32-bit integer and float grey are scaled from the smallest of
    the ranges 0..1 (float only), 0..255, 0..65535 that holds every value, otherwise from the
    picture's own minimum..maximum.

    Args:
        source: path of a file in one of `FORMATS`, or a picture in memory, which is not changed.
        max_pixels: most pixels (width x height) that are decoded.

    Returns:
        a picture of mode RGB; its size (width, height) in pixels is what boxes refer to.

    Raises:
        InputError: when it is missing, not a regular file, not a picture, too large or damaged.
    """
    if isinstance(source, Image.Image):
        try:
            return _finished(source, "picture in memory", max_pixels)
        except InputError:
            raise
        except _DAMAGED as error:  # it may be a file that was opened but not yet decoded
            raise _damaged("picture in memory", error) from error
    path = _regular_file(source)
    try:
        with warnings.catch_warnings():
            # Pillow warns about size (checked below) and about bad EXIF, which is no obstacle.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                return _finished(picture, str(path), max_pixels)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(str(path), "no permission to read it", "a readable picture") from error
    except UnidentifiedImageError as error:
        remedy = "save it in one of these formats, or leave the row out"
        raise InputError(
            str(path), _sniffed(path), f"a picture ({', '.join(FORMATS)})", remedy
        ) from error
    except _DAMAGED as error:
        raise _damaged(str(path), error) from error


def stored_orientation(source: str | Path | Image.Image) -> int:
    """Returns the EXIF orientation (1..8) of a picture as stored; 1 where the file names none.

    Raises:
        InputError: when it cannot be opened.
    """
    if isinstance(source, Image.Image):
        return _orientation(source)
    path = _regular_file(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                return _orientation(picture)
    except _DAMAGED as error:
        raise _damaged(str(path), error) from error


def stored_box(
    box: tuple[float, float, float, float], size: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """Returns where a box of the upright picture lies in the pixels as the file stores them.

    Args:
        box: x0 y0 x1 y1 in pixels of the upright picture, as spans and players give it.
        size: width and height of the upright picture.
        orientation: EXIF orientation of the file, 1 to 8.

    Raises:
        InputError: when `orientation` is not 1 to 8.
    """
    width, height = size

    def stored(x: float, y: float) -> tuple[float, float]:
        match orientation:
            case 1:
                return x, y
            case 2:
                return width - x, y
            case 3:
                return width - x, height - y
            case 4:
                return x, height - y
            case 5:
                return y, x
            case 6:
                return y, width - x
            case 7:
                return height - y, width - x
            case 8:
                return height - y, x
        raise InputError("orientation", str(orientation), "an EXIF orientation, 1 to 8")

    (xa, ya), (xb, yb) = stored(box[0], box[1]), stored(box[2], box[3])
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def _regular_file(source: str | Path) -> Path:
    """Returns the path if it names a regular file; opening a pipe or a device would never end."""
    where = str(source)
    try:
        mode = Path(source).stat().st_mode  # unlike is_file(), says why it cannot
    except FileNotFoundError as error:
        remedy = "check the path; paths in a manifest are relative to the manifest"
        raise InputError(where, "no such file", "a picture", remedy) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(where, f"unusable path ({reason})", "path of a picture") from error
    if stat.S_ISREG(mode):
        return Path(source)
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    kind = next((name for test, name in kinds if test(mode)), "a device")
    raise InputError(where, kind, "a picture file", "name the picture itself")


def _sniffed(path: Path) -> str:
    """Returns what a file that is no picture seems to be."""
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        return "an empty file (0 bytes)"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp":
        return "an HEIC, AVIF or video file"
    lowered = head.lower()
    if b"<svg" in lowered:
        return "an SVG drawing"
    if b"<html" in lowered or b"<!doctype html" in lowered:
        return "an HTML page"
    if not any(byte < 9 or 13 < byte < 32 for byte in head):
        return "a text file"
    return "no picture of a known format, or one with a damaged header"


def _damaged(where: str, error: Exception) -> InputError:
    reason = str(error) or type(error).__name__
    remedy = "replace it with an intact copy, or leave the row out"
    return InputError(where, f"damaged picture ({reason})", "one that decodes whole", remedy)


def _orientation(picture: Image.Image) -> int:
    value = picture.getexif().get(0x0112, 1)
    return value if value in range(1, 9) else 1


def _finished(picture: Image.Image, where: str, max_pixels: int) -> Image.Image:
    width, height = picture.size
    if width * height > max_pixels:
        found = f"{width} x {height} pixels"
        remedy = "make it smaller, or raise max_pixels if you trust the file"
        raise InputError(where, found, f"at most {max_pixels:,} pixels", remedy)
    if not width * height:
        raise InputError(where, f"{width} x {height} pixels", "at least one pixel")
    picture.load()  # verify() would let half a JPEG pass
    upright = ImageOps.exif_transpose(picture)
    return _rgb(upright, where)


def _rgb(picture: Image.Image, where: str) -> Image.Image:
    """Returns the picture as RGB by the rules that `open_picture` documents."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _rescaled(picture, where)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        flat = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        return Image.alpha_composite(flat, picture).convert("RGB")
    try:
        # convert() returns the same object when nothing is to do: never hand out the user's own
        return picture.copy() if picture.mode == "RGB" else picture.convert("RGB")
    except ValueError as error:
        remedy = "save it as RGB"
        raise InputError(where, f"colour mode {picture.mode}", "RGB or grey", remedy) from error


def _rescaled(picture: Image.Image, where: str) -> Image.Image:
    values = np.asarray(picture, dtype=np.float64)  # (height, width)
    if not np.isfinite(values).all():
        raise InputError(where, "NaN or infinite pixels", "finite values", "repair the picture")
    low, high = float(values.min()), float(values.max())
    ranges = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(picture.mode, (65535.0,))
    top = next((limit for limit in ranges if low >= 0 and high <= limit), None)
    if top is not None:
        low, high = 0.0, top
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.rint((values - low) * scale).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
