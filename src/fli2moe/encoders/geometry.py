"""Where a patch of the model's input lies in the upright raw picture: resize and crop undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fli2moe.errors import InputError

MAX_ASPECT = 16
"""Before a resize by the shorter edge, a picture longer than this times its short side is cut to
its middle: the centre crop drops the rest anyway, and 5000 x 1 would resize to 250 megapixels."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Resize:
    """How a processor resizes, in model-input pixels; exactly one of the modes is set.

    Attributes:
        fixed: (height, width), whatever the aspect ratio.
        shortest_edge: length of the shorter edge, aspect ratio kept.
        longest_edge: length of the longer edge; with `shortest_edge`, the most it may become.
        within: (height, width) that the picture must fit into, aspect ratio kept.
    """

    fixed: tuple[int, int] | None = None
    shortest_edge: int | None = None
    longest_edge: int | None = None
    within: tuple[int, int] | None = None

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Returns (width, height) after resizing; rounds down as Hugging Face processors do."""
        short, long = min(width, height), max(width, height)
        if self.fixed is not None:
            return self.fixed[1], self.fixed[0]
        if self.within is not None:
            scale = min(self.within[0] / height, self.within[1] / width)
            return int(width * scale), int(height * scale)
        if self.shortest_edge is None:
            edge = self.longest_edge or long
            new_short, new_long = int(edge * short / long), edge
        else:
            new_short, new_long = self.shortest_edge, int(self.shortest_edge * long / short)
            if self.longest_edge is not None and long / short * self.shortest_edge > (
                self.longest_edge
            ):
                exact = self.longest_edge * short / long
                new_short, new_long = round(exact), int(exact * long / short)
                if new_short == short:
                    new_long = long
        return (new_short, new_long) if width <= height else (new_long, new_short)


@dataclass(frozen=True)
class Steps:
    """What a processor does to a picture's geometry: resize, then cut out the centre.

    Attributes:
        resize: None leaves the size as it is.
        crop: (height, width) cut from the middle, padded where the picture is smaller.
    """

    resize: Resize | None = None
    crop: tuple[int, int] | None = None


@dataclass(frozen=True)
class Placement:
    """The affine map from pixels of the model's input to pixels of the upright raw picture.

    Attributes:
        raw: (width, height) of the raw picture.
        cut: integer box of the raw picture that is handed to the processor; usually all of it.
        size: (width, height) of the model's input.
        scale: (x, y) raw pixels per model pixel.
        shift: (x, y) raw pixels at the model input's top left corner.
    """

    raw: tuple[int, int]
    cut: tuple[int, int, int, int]
    size: tuple[int, int]
    scale: tuple[float, float]
    shift: tuple[float, float]

    def to_raw(self, boxes: Tensor) -> Tensor:
        """Maps boxes x0 y0 x1 y1 of the model's input, (N, 4), to raw pixels, clipped to them."""
        scale = torch.tensor([*self.scale, *self.scale], dtype=torch.float64)
        shift = torch.tensor([*self.shift, *self.shift], dtype=torch.float64)
        x0, y0, x1, y1 = self.cut
        low = torch.tensor([x0, y0, x0, y0], dtype=torch.float64)
        high = torch.tensor([x1, y1, x1, y1], dtype=torch.float64)
        return torch.clamp(boxes.double() * scale + shift, low, high).float()


def placement(raw: tuple[int, int], steps: Steps) -> Placement:
    """Returns where the model's input lies in a raw picture of size (width, height).

    Raises:
        InputError: when the picture's shape leaves nothing after the resize, or far too much.
    """
    cut = _middle(raw) if _needs_middle(raw, steps) else (0, 0, *raw)
    width, height = cut[2] - cut[0], cut[3] - cut[1]
    new_width, new_height = (
        (width, height) if steps.resize is None else steps.resize.target(width, height)
    )
    if min(new_width, new_height) < 1 or max(new_width, new_height) > 65_536:
        found = f"{raw[0]} x {raw[1]} would become {new_width} x {new_height} pixels"
        raise InputError("picture", found, "a less extreme shape", "cut the picture")
    scale = width / new_width, height / new_height
    left = top = 0
    size = new_width, new_height
    if steps.crop is not None:
        # negative where the picture is smaller: it is then padded by that much (also rounded down)
        top, left = (new_height - steps.crop[0]) // 2, (new_width - steps.crop[1]) // 2
        size = steps.crop[1], steps.crop[0]
    shift = cut[0] + left * scale[0], cut[1] + top * scale[1]
    return Placement(raw, cut, size, scale, shift)


def _needs_middle(raw: tuple[int, int], steps: Steps) -> bool:
    resize = steps.resize
    by_short_edge = resize is not None and resize.shortest_edge and resize.longest_edge is None
    return bool(by_short_edge and steps.crop and max(raw) > MAX_ASPECT * min(raw))


def _middle(raw: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = (min(side, MAX_ASPECT * min(raw)) for side in raw)
    x0, y0 = (raw[0] - width) // 2, (raw[1] - height) // 2
    return x0, y0, x0 + width, y0 + height


def grid_size(place: Placement, patch: tuple[int, int]) -> tuple[int, int]:
    """Returns (rows, columns) of whole patches of size (height, width) in the model's input."""
    return place.size[1] // patch[0], place.size[0] // patch[1]


def patch_boxes(place: Placement, patch: tuple[int, int]) -> Tensor:
    """Returns each patch's box in the upright raw picture.

    Args:
        place: the map, from `placement`.
        patch: (height, width) in pixels of the model's input.

    Returns:
        (P, 4) float, x0 y0 x1 y1 in raw pixels, row by row; an empty box is a patch of padding.
    """
    rows, columns = grid_size(place, patch)
    top = torch.arange(rows).repeat_interleave(columns) * patch[0]
    left = torch.arange(columns).repeat(rows) * patch[1]
    boxes = torch.stack([left, top, left + patch[1], top + patch[0]], dim=1)
    return place.to_raw(boxes)


def pool_patches(
    features: Tensor, boxes: Tensor, grid: tuple[int, int], pool: int
) -> tuple[Tensor, Tensor]:
    """Averages p x p neighbouring patches into one; the last row and column may hold fewer.

    Patches of padding (empty boxes) are left out of the average.

    Args:
        features: (P, D), row by row.
        boxes: (P, 4) of `patch_boxes`.
        grid: (rows, columns), P = rows * columns.
        pool: p; 1 changes nothing.

    Returns:
        features (P', D) and boxes (P', 4), row by row.
    """
    rows, columns = grid
    wide = -(-columns // pool)
    row = torch.arange(rows).repeat_interleave(columns) // pool
    block = row * wide + torch.arange(columns).repeat(rows) // pool  # (P,)
    blocks = -(-rows // pool) * wide
    real = has_area(boxes).to(features)
    count = features.new_zeros(blocks).index_add(0, block, real)
    total = features.new_zeros(blocks, features.shape[1])
    total = total.index_add(0, block, features * real[:, None])
    lowest = boxes.new_full((blocks, 4), float("inf"))
    highest = boxes.new_full((blocks, 4), float("-inf"))
    index = block[:, None].expand(-1, 4)
    lowest = lowest.scatter_reduce(0, index, boxes, "amin")
    highest = highest.scatter_reduce(0, index, boxes, "amax")
    joined = torch.cat([lowest[:, :2], highest[:, 2:]], dim=1)
    return total / count.clamp(min=1)[:, None], joined


def has_area(boxes: Tensor) -> Tensor:
    """(P,) bool: boxes (P, 4) that are not empty."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def unseen_boxes(place: Placement, boxes: Tensor) -> tuple[Box, ...]:
    """Returns the borders of the raw picture that no patch covers, as up to four disjoint boxes.

    Args:
        place: the map, from `placement`.
        boxes: (P, 4) of `patch_boxes`, at least one of them with area.
    """
    width, height = place.raw
    seen = boxes[has_area(boxes)]
    if not len(seen):
        return ((0.0, 0.0, float(width), float(height)),)
    x0, y0 = seen[:, :2].amin(0).tolist()
    x1, y1 = seen[:, 2:].amax(0).tolist()
    borders = ((0, 0, width, y0), (0, y0, x0, y1), (x1, y0, width, y1), (0, y1, width, height))
    slack = 1e-3  # of a pixel: float32 rounding is no border
    return tuple(
        (float(a), float(b), float(c), float(d))
        for a, b, c, d in borders
        if c - a > slack and d - b > slack
    )


def steps_of(processor: Any) -> Steps:
    """Reads the geometric steps from a Hugging Face image processor's settings.

    Raises:
        InputError: when it resizes in a way that is not known here.
    """
    resize, crop = None, None
    if getattr(processor, "do_resize", False):
        size = {key: value for key, value in dict(processor.size).items() if value}
        if "height" in size and "width" in size:
            resize = Resize(fixed=(size["height"], size["width"]))
        elif "max_height" in size and "max_width" in size:
            resize = Resize(within=(size["max_height"], size["max_width"]))
        elif "shortest_edge" in size or "longest_edge" in size:
            resize = Resize(
                shortest_edge=size.get("shortest_edge"), longest_edge=size.get("longest_edge")
            )
        else:
            raise InputError("image processor", f"size {size}", "a known way to resize")
    if getattr(processor, "do_center_crop", False):
        crop_size = dict(processor.crop_size)
        crop = crop_size["height"], crop_size["width"]
    return Steps(resize, crop)
