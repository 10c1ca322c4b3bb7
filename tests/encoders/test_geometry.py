"""Boxes: patches tile what the model sees, and sizes follow the processors' own arithmetic."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fli2moe.encoders.geometry import (
    Resize,
    Steps,
    grid_size,
    has_area,
    patch_boxes,
    placement,
    pool_patches,
    unseen_boxes,
)
from fli2moe.errors import InputError

sides = st.integers(1, 700)
STEPS = {
    "as it is": Steps(),
    "fixed": Steps(Resize(fixed=(64, 96))),
    "shortest edge": Steps(Resize(shortest_edge=64)),
    "shortest edge, crop": Steps(Resize(shortest_edge=72), (64, 64)),
    "crop, padded": Steps(None, (64, 64)),
    "within": Steps(Resize(within=(96, 64))),
}


def area(boxes: torch.Tensor) -> float:
    return float(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum())


def reference_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """(height, width) by the functions that Hugging Face's processors call themselves."""
    import numpy as np
    from transformers import image_transforms, image_utils

    if resize.within:
        return image_utils.get_image_size_for_max_height_width((height, width), *resize.within)
    if resize.longest_edge:
        return image_transforms.get_size_with_aspect_ratio(
            (height, width), resize.shortest_edge, resize.longest_edge
        )
    picture = np.broadcast_to(np.uint8(0), (3, height, width))
    return image_transforms.get_resize_output_image_size(
        picture, resize.shortest_edge, default_to_square=False, input_data_format="channels_first"
    )


@settings(max_examples=300, deadline=None)
@given(
    sides,
    sides,
    st.sampled_from(
        [
            Resize(shortest_edge=224),
            Resize(shortest_edge=37),
            Resize(within=(100, 64)),
            Resize(shortest_edge=60, longest_edge=90),
            Resize(shortest_edge=224, longest_edge=300),
        ]
    ),
)
def test_resized_sizes_are_the_processors_own(width: int, height: int, resize: Resize) -> None:
    expected_height, expected_width = reference_size(height, width, resize)
    assert resize.target(width, height) == (expected_width, expected_height)


def test_longest_edge_alone_sets_the_longer_side() -> None:
    assert Resize(longest_edge=100).target(50, 200) == (25, 100)
    assert Resize(longest_edge=100).target(200, 50) == (100, 25)


@settings(max_examples=200, deadline=None)
@given(sides, sides, st.sampled_from(list(STEPS.values())), st.sampled_from([(8, 8), (16, 8)]))
def test_patches_tile_what_is_seen_and_the_rest_is_unseen(
    width: int, height: int, steps: Steps, patch: tuple[int, int]
) -> None:
    try:
        place = placement((width, height), steps)
    except InputError:
        assert max(width, height) > 30 * min(width, height)
        return
    boxes = patch_boxes(place, patch)
    rows, columns = grid_size(place, patch)
    assert boxes.shape == (rows * columns, 4)
    assert torch.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= width).all()
    assert (boxes[:, [1, 3]] <= height).all()
    border = torch.tensor(unseen_boxes(place, boxes)).reshape(-1, 4)
    # disjoint by construction of the grid; together they cover the picture exactly once
    assert area(boxes) + area(border) == pytest.approx(width * height, rel=1e-3, abs=0.2)
    for row in range(rows):
        line = boxes[row * columns : (row + 1) * columns]
        assert torch.equal(line[:-1, 2], line[1:, 0])


def test_a_centre_crop_leaves_the_borders_unseen() -> None:
    place = placement((300, 100), Steps(Resize(shortest_edge=50), (50, 50)))
    boxes = patch_boxes(place, (25, 25))
    assert boxes.tolist() == [
        [100, 0, 150, 50],
        [150, 0, 200, 50],
        [100, 50, 150, 100],
        [150, 50, 200, 100],
    ]
    assert unseen_boxes(place, boxes) == ((0, 0, 100, 100), (200, 0, 300, 100))


def test_pixels_that_fill_no_patch_are_unseen() -> None:
    place = placement((40, 35), Steps())
    assert unseen_boxes(place, patch_boxes(place, (16, 16))) == ((32, 0, 40, 32), (0, 32, 40, 35))


def test_padding_has_no_box() -> None:
    place = placement((16, 64), Steps(None, (64, 64)))
    inside = has_area(patch_boxes(place, (16, 16))).reshape(4, 4)
    # 48 columns are missing, 24 on each side: columns 1 and 2 hold eight pixels each
    assert inside.tolist() == [[False, True, True, False]] * 4


def test_an_endless_strip_is_cut_to_its_middle_first() -> None:
    place = placement((5000, 1), Steps(Resize(shortest_edge=224), (224, 224)))
    assert place.cut == (2492, 0, 2508, 1)
    assert patch_boxes(place, (224, 224)).tolist() == [[2499.5, 0, 2500.5, 1]]


def test_a_shape_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="5000 x 1 would become"):
        placement((5000, 1), Steps(Resize(within=(64, 64))))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_pooling_averages_blocks_and_joins_their_boxes(rows: int, columns: int, pool: int) -> None:
    place = placement((columns * 10, rows * 10), Steps())
    boxes = patch_boxes(place, (10, 10))
    features = torch.randn(rows * columns, 3, generator=torch.Generator().manual_seed(0))
    pooled, joined = pool_patches(features, boxes, (rows, columns), pool)
    grid = features.reshape(rows, columns, 3)
    expected = [
        (
            grid[r : r + pool, c : c + pool].reshape(-1, 3).mean(0),
            [c * 10, r * 10, min(c + pool, columns) * 10, min(r + pool, rows) * 10],
        )
        for r in range(0, rows, pool)
        for c in range(0, columns, pool)
    ]
    assert torch.allclose(pooled, torch.stack([mean for mean, _ in expected]), atol=1e-6)
    assert joined.tolist() == [box for _, box in expected]


def test_pooling_leaves_padding_out() -> None:
    place = placement((16, 64), Steps(None, (64, 64)))
    boxes = patch_boxes(place, (16, 16))
    features = has_area(boxes).float()[:, None] * 5
    pooled, joined = pool_patches(features, boxes, (4, 4), 2)
    assert pooled.flatten().tolist() == [5, 5, 5, 5]
    assert joined[0].tolist() == [0, 0, 8, 32]
