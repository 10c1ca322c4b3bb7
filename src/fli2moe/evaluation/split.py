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
        targets: the classes that each sample's explanations speak of: those predicted, for
            multi-label the most probable where none is.
        shares: per sample, (L, E) contribution of each expert to each of its L targets.
    """

    __test__ = False  # not a test of pytest's

    samples: Sequence[Sample]
    features: Features
    target: Tensor
    logits: Tensor
    weights: Tensor
    targets: list[list[int]]
    shares: list[Tensor]

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
    logits, weights = [], []
    targets: list[list[int]] = []
    shares: list[Tensor] = []
    for start in range(0, len(samples), BATCH):
        index = range(start, min(start + BATCH, len(samples)))
        output = predictor.run(features.batch(index))
        logits.append(output.logits)
        weights.append(output.weights)
        of_batch = task.targets(output.logits)
        each = [  # the k-th target of every sample, the last one again where there are fewer
            contribution_shares(task, output, [t[min(k, len(t) - 1)] for t in of_batch])
            for k in range(max(len(t) for t in of_batch))
        ]
        found = torch.stack(each, dim=1)  # (B, most targets, E)
        shares += [found[row, : len(t)] for row, t in enumerate(of_batch)]
        targets += of_batch
    return TestSplit(
        samples,
        features,
        task.encode([s.labels for s in samples]),
        torch.cat(logits),
        torch.cat(weights),
        targets,
        shares,
    )
