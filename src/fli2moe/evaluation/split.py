"""The test split as evaluation sees it: features, labels and what the model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fli2moe.data.sample import Sample
from fli2moe.explain.pieces import contribution_shares
from fli2moe.features import Features, Progress, encode_samples
from fli2moe.predictor import Predictor
from fli2moe.tokens import TokenBatch

BATCH = 64


@dataclass(frozen=True, eq=False)
class TestSplit:
    """The test samples with their features, labels and the model's logits.

    Attributes:
        samples: in the order of everything else.
        features: of the samples.
        target: labels as `Task.encode` returns them.
        logits: (N, C) of the mixture.
        weights: (N, E) router weights.
        shares: (N, E) contribution of each expert to the first predicted target.
        targets: the classes that each sample's explanation speaks of.
    """

    __test__ = False  # not a test of pytest's

    samples: Sequence[Sample]
    features: Features
    target: Tensor
    logits: Tensor
    weights: Tensor
    shares: Tensor
    targets: list[list[int]]

    def tokens(self, index: int) -> TokenBatch:
        """Returns one sample's tokens (B = 1), without padding."""
        return self.features.batch([index])

    def choose(self, candidates: Sequence[int], size: int, seed: int) -> list[int]:
        """Returns a seeded choice of at most `size` of the candidates, in order."""
        if len(candidates) <= size:
            return list(candidates)
        random = np.random.default_rng(seed)
        return sorted(random.choice(np.array(candidates), size, replace=False).tolist())


def run_split(
    predictor: Predictor, samples: Sequence[Sample], cache: Path, progress: Progress | None = None
) -> TestSplit:
    """Encodes (or reads from the cache) and runs the model over some samples."""
    features = encode_samples(samples, predictor.encoders, cache, progress)
    task = predictor.task
    logits, weights, shares = [], [], []
    targets: list[list[int]] = []
    for start in range(0, len(samples), BATCH):
        index = range(start, min(start + BATCH, len(samples)))
        output = predictor.run(features.batch(index))
        batch_targets = task.targets(output.logits)
        logits.append(output.logits)
        weights.append(output.weights)
        shares.append(contribution_shares(task, output, [t[0] for t in batch_targets]))
        targets += batch_targets
    return TestSplit(
        samples,
        features,
        task.encode([s.labels for s in samples]),
        torch.cat(logits),
        torch.cat(weights),
        torch.cat(shares),
        targets,
    )
