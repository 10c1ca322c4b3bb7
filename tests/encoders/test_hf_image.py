"""Image encoders of every family: a patch's box is where the picture must be changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fli2moe.encoders import load_encoder, open_picture, patch_players, stored_box
from fli2moe.encoders.base import Encoder
from fli2moe.encoders.geometry import placement
from fli2moe.encoders.hf_image import HFImageEncoder
from fli2moe.errors import InputError

FAMILIES = ("vit", "deit", "clip", "siglip", "dinov2", "dinov2_registers")
LEADING = {"vit": 1, "deit": 2, "clip": 1, "siglip": 0, "dinov2": 1, "dinov2_registers": 5}


@pytest.fixture(scope="module")
def encoders(model_folder: Callable[[str], str]) -> dict[str, Encoder]:
    return {name: load_encoder(model_folder(name), kind="image") for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest, encoders: dict[str, Any]) -> HFImageEncoder:
    encoder: HFImageEncoder = encoders[request.param]
    return encoder


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(90, 166, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def model_input(encoder: HFImageEncoder, source: Any) -> torch.Tensor:
    picture = open_picture(source)
    return encoder._pixels(picture, placement(picture.size, encoder._steps))


def change_per_patch(before: torch.Tensor, after: torch.Tensor, patch: int) -> torch.Tensor:
    """(rows, columns): summed absolute change of the model's input in each patch."""
    change = (after - before).abs().sum(0)
    rows, columns = change.shape[0] // patch, change.shape[1] // patch
    change = change[: rows * patch, : columns * patch]
    return change.reshape(rows, patch, columns, patch).sum((1, 3))


def assert_only_this_patch_changed(change: torch.Tensor, index: int) -> None:
    row, column = divmod(index, change.shape[1])
    assert int(change.argmax()) == index
    assert change[row, column] > 0.7 * change.sum()
    far = torch.ones_like(change, dtype=torch.bool)
    far[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = False
    assert not far.any() or change[far].max() == 0  # resampling bleeds into neighbours at most


def test_it_is_an_encoder(encoder: HFImageEncoder) -> None:
    assert isinstance(encoder, Encoder)
    tokens = encoder.encode([noise(60, 40)])
    assert (encoder.kind, encoder.width, tokens.width) == ("image", 16, 16)
    assert tokens.features.dtype == torch.float32
    assert not tokens.features.requires_grad
    assert tokens.content.all()


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(40, 260), st.integers(40, 260), st.integers(1, 8), st.data())
def test_painting_a_box_changes_only_its_patch(
    encoder: HFImageEncoder,
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    orientation: int,
    data: st.DataObject,
) -> None:
    """Through the file's EXIF rotation, the resize and the crop."""
    stored = noise(width, height)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path_factory.getbasetemp() / "painted.png"
    stored.save(path, exif=exif)
    upright = open_picture(path)
    before = model_input(encoder, path)
    boxes = encoder.encode([path]).spans[0]
    index = data.draw(st.integers(0, len(boxes) - 1))
    x0, y0, x1, y1 = boxes[index].tolist()
    inner = (math.ceil(x0 - 0.01), math.ceil(y0 - 0.01), int(x1 + 0.01), int(y1 + 0.01))
    place = stored_box(tuple(map(float, inner)), upright.size, orientation)
    stored.paste((255, 0, 255), tuple(round(value) for value in place))
    stored.save(path, exif=exif)
    change = change_per_patch(before, model_input(encoder, path), encoder._patch[0])
    assert_only_this_patch_changed(change, index)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(1, 300), st.integers(1, 300))
def test_patches_tile_the_seen_part_of_any_shape(
    encoder: HFImageEncoder, width: int, height: int
) -> None:
    if encoder._steps.crop is None and max(width, height) > 20 * min(width, height):
        return  # without a crop, a strip becomes thousands of patches
    picture = noise(width, height)
    tokens = encoder.encode([picture])
    boxes = torch.cat([tokens.spans[0], torch.tensor(encoder.unseen(picture)).reshape(-1, 4)])
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    assert float(area) == pytest.approx(width * height, rel=1e-3)
    assert torch.isfinite(tokens.features).all()
    players = patch_players(tokens.spans[0], "poster")
    assert [player.tokens for player in players] == [(t,) for t in range(tokens.spans.shape[1])]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("family", ["vit", "clip", "siglip", "dinov2"])
def test_extreme_shapes_are_finite(
    encoders: dict[str, Encoder], family: str, size: tuple[int, int]
) -> None:
    tokens = encoders[family].encode([noise(*size)])
    assert tokens.content.sum() == 16
    assert torch.isfinite(tokens.features).all()


def test_a_shape_that_no_crop_tames_names_the_file(
    tmp_path: Path, encoders: dict[str, Encoder]
) -> None:
    path = tmp_path / "strip.png"
    noise(5000, 1).save(path)
    with pytest.raises(InputError, match=r"strip\.png: 5000 x 1 would become"):
        encoders["dinov2_registers"].encode([path])


def test_the_batch_does_not_change_features(encoder: HFImageEncoder) -> None:
    batch = [noise(60, 40, 1), noise(40, 90, 2), noise(64, 64, 3)]
    together = encoder.encode(batch)
    for row, picture in enumerate(batch):
        alone = encoder.encode([picture])
        length = alone.features.shape[1]
        assert torch.equal(together.spans[row, :length], alone.spans[0])
        assert not together.mask[row, length:].any()
        difference = together.features[row, :length] - alone.features[0]
        assert difference.abs().max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_keep_keeps_structural_tokens_first(
    model_folder: Callable[[str], str], encoders: dict[str, Encoder], family: str
) -> None:
    kept = load_encoder(model_folder(family), kind="image", structural_tokens="keep")
    tokens, dropped = kept.encode([noise(60, 40)]), encoders[family].encode([noise(60, 40)])
    leading = LEADING[family]
    assert not tokens.content[0, :leading].any()
    assert tokens.mask.all()
    assert torch.equal(tokens.features[:, leading:], dropped.features)
    assert torch.equal(tokens.spans[:, leading:], dropped.spans)


def test_features_are_the_models_own(model_folder: Callable[[str], str]) -> None:
    from transformers import AutoImageProcessor, CLIPVisionModel, Dinov2WithRegistersModel

    for family, model_class in (
        ("clip", CLIPVisionModel),
        ("dinov2_registers", Dinov2WithRegistersModel),
    ):
        folder = model_folder(family)
        model = model_class.from_pretrained(folder).eval()
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        with torch.no_grad():
            hidden = model(**processor(noise(60, 40), return_tensors="pt")).last_hidden_state
        features = load_encoder(folder, kind="image").encode([noise(60, 40)]).features
        assert torch.allclose(features, hidden[:, LEADING[family] :], atol=1e-6)


def test_pooling_averages_neighbouring_patches(
    model_folder: Callable[[str], str], encoders: dict[str, Encoder]
) -> None:
    picture = noise(64, 64)
    fine = encoders["vit"].encode([picture])
    coarse = load_encoder(model_folder("vit"), pool=2).encode([picture])
    assert coarse.features.shape == (1, 4, 16)
    assert torch.allclose(coarse.features[0, 0], fine.features[0, [0, 1, 4, 5]].mean(0), atol=1e-6)
    assert coarse.spans[0].tolist() == [
        [0, 0, 32, 32],
        [32, 0, 64, 32],
        [0, 32, 32, 64],
        [32, 32, 64, 64],
    ]
    uneven = load_encoder(model_folder("vit"), pool=3).encode([picture])
    assert uneven.spans[0, 1].tolist() == [48, 0, 64, 48]
    with pytest.raises(InputError, match="pool"):
        load_encoder(model_folder("vit"), pool=0)


def test_it_never_trains(encoder: HFImageEncoder) -> None:
    before = encoder.encode([noise(60, 40)]).features

    class Parent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

    parent = Parent().train()
    assert not list(parent.parameters())
    assert not [value for value in vars(encoder).values() if isinstance(value, torch.nn.Module)]
    assert torch.equal(encoder.encode([noise(60, 40)]).features, before)


def test_bad_pictures_name_the_file(tmp_path: Path, encoder: HFImageEncoder) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"broken\.jpg: an HTML page"):
        encoder.encode([noise(60, 40), broken])
    with pytest.raises(InputError, match="no such file"):
        encoder.unseen(tmp_path / "missing.jpg")
    with pytest.raises(InputError, match="no pictures"):
        encoder.encode([])


def test_a_processor_that_moves_pixels_is_refused(
    model_folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import ViTImageProcessorPil

    original = ViTImageProcessorPil.resize

    def flipped(self: Any, image: Any, *args: Any, **options: Any) -> Any:
        return original(self, image, *args, **options)[..., ::-1].copy()

    monkeypatch.setattr(ViTImageProcessorPil, "resize", flipped)
    with pytest.raises(InputError, match="moves pixels in a way"):
        load_encoder(model_folder("vit"))


@pytest.mark.shared
def test_the_real_vit_tiny(vit_tiny: str) -> None:
    from transformers import AutoImageProcessor, AutoModel

    encoder = load_encoder(vit_tiny)
    picture = noise(256, 455)
    tokens = encoder.encode([picture, noise(300, 200)])
    assert tokens.features.shape == (2, 196, 192)
    assert tokens.spans[0, 0].tolist() == pytest.approx([0, 0, 256 / 14, 455 / 14])
    assert tokens.spans[0, 15].tolist() == pytest.approx(
        [256 / 14, 455 / 14, 2 * 256 / 14, 2 * 455 / 14], abs=1e-4
    )
    processor = AutoImageProcessor.from_pretrained(vit_tiny, backend="pil")
    model = AutoModel.from_pretrained(vit_tiny).eval()
    with torch.no_grad():
        hidden = model(**processor(picture, return_tensors="pt")).last_hidden_state
    assert torch.allclose(tokens.features[0], hidden[0, 1:], atol=1e-4)
    assert load_encoder(vit_tiny, pool=2).encode([picture]).features.shape == (1, 49, 192)
