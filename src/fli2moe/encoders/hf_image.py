"""A frozen Hugging Face image encoder: patch features with their boxes in the raw picture."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fli2moe.encoders.digests import fingerprint_of, identity_of
from fli2moe.encoders.geometry import (
    Placement,
    grid_size,
    has_area,
    patch_boxes,
    placement,
    pool_patches,
    steps_of,
    unseen_boxes,
)
from fli2moe.encoders.hf_text import check_options, no_tokens
from fli2moe.encoders.images import MAX_PIXELS, open_picture
from fli2moe.encoders.pretrained import find_folder, frozen, load_tower, loading
from fli2moe.errors import InputError
from fli2moe.tokens import STRUCTURAL, Tokens

LEADING_TOKENS = {
    "vit": 1,
    "deit": 2,
    "clip_vision_model": 1,
    "siglip_vision_model": 0,
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "dinov3_vit": 1,
}
"""CLS (and distillation) tokens before the patches, by model type; registers come on top."""


class HFImageEncoder:
    """Patch features of a frozen vision transformer (ViT, DINOv2, a CLIP or SigLIP tower).

    Boxes are pixels of the upright raw picture, with the processor's resize and crop undone.
    At construction two test pictures go through the processor, so a processor that moves pixels
    in an unknown way is refused instead of giving wrong boxes.

    Args:
        name: a folder, `package:<name>`, or a name on the Hugging Face hub.
        structural_tokens: `drop` leaves CLS and registers out of the sequence; `keep` keeps
            them first, with span -1.
        pool: p averages p x p neighbouring patches into one token.
        max_pixels: most pixels a picture may have.
        device: where it computes; features are returned on the CPU.

    Raises:
        InputError: when the model cannot be used or an option is wrong.
        MachineError: when it is not on this machine and cannot be fetched.
    """

    kind = "image"

    def __init__(
        self,
        name: str,
        *,
        structural_tokens: str = "drop",
        pool: int = 1,
        max_pixels: int = MAX_PIXELS,
        device: str = "cpu",
    ) -> None:
        check_options(name, structural_tokens, pool=pool, max_pixels=max_pixels)
        self.name, self.device = name, device
        self.structural_tokens, self.pool, self.max_pixels = structural_tokens, pool, max_pixels
        self._folder = find_folder(name)
        self._processor = _image_processor(name, self._folder)
        self._steps = steps_of(self._processor)
        model = load_tower(name, self._folder, "image", device)
        config = model.config
        if not (hasattr(config, "patch_size") and hasattr(config, "image_size")):
            found = f"a {config.model_type}, which has no fixed grid of patches"
            remedy = f"use a plain vision transformer ({', '.join(LEADING_TOKENS)})"
            raise InputError(name, found, "one token per patch", remedy)
        self.width: int = config.hidden_size
        self._patch = _pair(config.patch_size)
        self._image_size = _pair(config.image_size)
        self._model_type: str = config.model_type
        self._registers: int = getattr(config, "num_register_tokens", 0)
        self._interpolates = (
            "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        )
        self._check_processor()
        self._forward = frozen(model)

    @cached_property
    def identity(self) -> str:
        """Digest of weights, processor and options."""
        options: dict[str, object] = {
            "class": "HFImageEncoder/1",
            "structural_tokens": self.structural_tokens,
            "pool": self.pool,
        }
        return identity_of(options, self._folder)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the identity and of what prepares the pictures and runs the model."""
        return fingerprint_of(self.identity, ("transformers", "pillow", "numpy", "torch"))

    def encode(self, inputs: Sequence[str | Path | Image.Image]) -> Tokens:
        """Encodes pictures into one token per patch, row by row; see `Encoder.encode`.

        Returns:
            features (B, T, D), spans (B, T, 4) in pixels of the upright raw picture.

        Raises:
            InputError: when a picture cannot be read; it names the file.
        """
        if not inputs:
            raise InputError(self.name, "no pictures", "at least one")
        pictures = [open_picture(source, max_pixels=self.max_pixels) for source in inputs]
        places = [
            self._place(source, picture) for source, picture in zip(inputs, pictures, strict=True)
        ]
        pixels = [
            self._pixels(picture, place) for picture, place in zip(pictures, places, strict=True)
        ]
        # processors that keep the aspect ratio give each picture its own size
        if len({place.size for place in places}) == 1:
            hidden = list(self._features(torch.stack(pixels)))
        else:
            hidden = [self._features(one[None])[0] for one in pixels]
        return Tokens.stack(
            [self._row(one, place) for one, place in zip(hidden, places, strict=True)]
        )

    def unseen(self, raw: str | Path | Image.Image) -> tuple[tuple[float, ...], ...]:
        """Returns the borders of the picture that are cropped away, as boxes; see `Encoder`."""
        place = self._place(raw, open_picture(raw, max_pixels=self.max_pixels))
        return unseen_boxes(place, patch_boxes(place, self._patch))

    def _place(self, source: str | Path | Image.Image, picture: Image.Image) -> Placement:
        where = "picture in memory" if isinstance(source, Image.Image) else str(source)
        try:
            place = placement(picture.size, self._steps)
        except InputError as error:
            raise InputError(where, error.found, error.expected, error.remedy) from error
        if 0 in grid_size(place, self._patch):
            found = f"{place.size[0]} x {place.size[1]} pixels after resizing"
            raise InputError(where, found, f"at least one patch of {self._patch}")
        return place

    def _pixels(self, picture: Image.Image, place: Placement) -> Tensor:  # (3, height, width)
        part = picture if place.cut == (0, 0, *picture.size) else picture.crop(place.cut)
        pixels: Tensor = self._processor(images=part, return_tensors="pt")["pixel_values"][0]
        return pixels

    def _features(self, pixels: Tensor) -> Tensor:  # (B, 3, height, width) -> (B, T, D)
        options = {}
        if self._interpolates and tuple(pixels.shape[-2:]) != self._image_size:
            options["interpolate_pos_encoding"] = True
        return self._forward(pixel_values=pixels.to(self.device), **options)

    def _row(self, hidden: Tensor, place: Placement) -> Tokens:
        grid = grid_size(place, self._patch)
        leading = self._leading(len(hidden), grid)
        boxes = patch_boxes(place, self._patch)
        features, boxes = pool_patches(hidden[leading:], boxes, grid, self.pool)
        inside = has_area(boxes)  # a patch of padding has no place in the picture
        if self.structural_tokens == "drop":
            features, boxes = features[inside], boxes[inside]
        else:
            features = torch.cat([hidden[:leading], features])
            boxes = torch.where(inside[:, None], boxes, STRUCTURAL)
            boxes = torch.cat([boxes.new_full((leading, 4), STRUCTURAL), boxes])
        if not len(boxes):
            return no_tokens(self.width, 4)
        mask = torch.ones(1, len(boxes), dtype=torch.bool)
        return Tokens(features[None], mask, boxes[None])

    def _leading(self, tokens: int, grid: tuple[int, int]) -> int:
        """Returns how many tokens come before the patches, (CLS, registers)."""
        leading = tokens - grid[0] * grid[1]
        known = LEADING_TOKENS.get(self._model_type)
        expected = (0, 1) if known is None else (known + self._registers,)
        if leading not in expected:
            found = f"{tokens} tokens of a {self._model_type} for {grid[0]} x {grid[1]} patches"
            remedy = f"use a plain vision transformer ({', '.join(LEADING_TOKENS)})"
            raise InputError(self.name, found, "one token per patch", remedy)
        return leading

    def _check_processor(self) -> None:
        """Sends two ramps through the processor and checks that pixels land where we think."""
        for width, height in ((120, 75), (75, 120)):
            x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
            ramp = np.rint(np.stack([x, y, np.zeros_like(x)], axis=-1)).astype(np.uint8)
            place = placement((width, height), self._steps)
            seen = self._grey_levels(self._pixels(Image.fromarray(ramp), place))
            if tuple(seen.shape[:0:-1]) != place.size or not _is_ramp(seen, place):
                found = "its image processor moves pixels in a way that is not understood"
                remedy = "use a model whose processor only resizes and crops the centre"
                raise InputError(self.name, found, "boxes that can be mapped back", remedy)

    def _grey_levels(self, pixels: Tensor) -> Tensor:  # (3, height, width), 0..255 again
        if getattr(self._processor, "do_normalize", False):
            mean, std = (
                torch.tensor(value).reshape(-1, 1, 1)
                for value in (self._processor.image_mean, self._processor.image_std)
            )
            pixels = pixels * std + mean
        if getattr(self._processor, "do_rescale", False):
            pixels = pixels / self._processor.rescale_factor
        return pixels.float()


def _is_ramp(seen: Tensor, place: Placement) -> bool:
    """Whether red still tells x and green y of the raw picture: seen (3, height, width), 0..255."""
    for axis, side in enumerate(place.raw):
        centre = torch.arange(place.size[axis]) + 0.5
        raw = centre * place.scale[axis] + place.shift[axis]
        inner = (raw > 2) & (raw < side - 2)  # away from what resampling does at the border
        expected = (raw - 0.5) * 255 / (side - 1)
        line = seen[axis].median(dim=axis).values
        if not bool(((line - expected)[inner].abs() < 4).all()):
            return False
    return True


def _image_processor(name: str, folder: Path) -> Any:
    import transformers

    with loading(name):
        # the PIL backend: torchvision resizes differently, and is not needed
        return transformers.AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False
        )


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
