"""A control: the same samples with each other's labels, so that there is nothing to learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fli2moe.data.sample import Dataset, Sample


def permuted_labels(dataset: Dataset, seed: int) -> Dataset:
    """Returns the data set with the labels of train, and those of val, in another order.

    Label frequencies stay as they are; test samples are untouched. Planted causes of the others are
    dropped: they are no longer true (Adebayo et al. 2018, data randomisation test).

    Args:
        dataset: any.
        seed: of the two permutations.
    """
    generator = np.random.default_rng(seed)
    changed: dict[str, Sample] = {}
    for split in ("train", "val"):
        samples = dataset.split(split)
        order = generator.permutation(len(samples))
        for sample, other in zip(samples, order.tolist(), strict=True):
            changed[sample.id] = replace(sample, labels=samples[other].labels, causes=())
    note = "a control: training and validation labels changed places among their samples"
    return replace(
        dataset,
        samples=tuple(changed.get(s.id, s) for s in dataset.samples),
        notes=(*dataset.notes, note),
    )
