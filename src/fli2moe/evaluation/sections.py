"""The parts of an evaluation, each measured by itself, here or in another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fli2moe.data.sample import Sample
from fli2moe.evaluation.concentration import concentration
from fli2moe.evaluation.faithfulness import faithfulness
from fli2moe.evaluation.interactions import interaction_shares
from fli2moe.evaluation.pair_masking import pair_masking
from fli2moe.evaluation.part import Part
from fli2moe.evaluation.planted import planted_recovery
from fli2moe.evaluation.sanity import sanity
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.evaluation.stability import stability
from fli2moe.evaluation.unfinished import Unfinished
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

PARTS: dict[str, Callable[[Predictor, TestSplit, int, Progress | None], Part]] = {
    "interaction_share": interaction_shares,
    "faithfulness": faithfulness,
    "concentration": concentration,
    "pair_masking": pair_masking,
    "planted": planted_recovery,
    "sanity": sanity,
    "stability": stability,
}
"""Sections of `metrics.json` beside `task` and `experts`; an empty one is left out."""
LONGEST = ("pair_masking", "faithfulness", "interaction_share", "stability", "planted")
"""What several processes begin with, so that none is left with a long one at the end."""


def measured(
    section: str,
    predictor: Predictor,
    test: TestSplit,
    seed: int,
    unfinished: Unfinished,
    progress: Progress | None = None,
) -> tuple[Part, float]:
    """Returns a part and the seconds it took, from disk where it was measured before."""
    found = unfinished.find(section)
    if found is None:
        seconds: dict[str, float] = {}
        with timed(seconds, section):
            part = PARTS[section](predictor, test, seed, progress)
        found = part, seconds[section]
        unfinished.keep(section, *found)
    return found


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Writes down how long the block took."""
    started = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - started, 2)


@dataclass(frozen=True)
class EvaluateJob:
    """An evaluation as a job for several processes: part n of it is `sections[n]`.

    Attributes:
        run: the run folder; measured parts are kept in it.
        samples: the test samples.
        cache: of the features, which are there.
        seed: of the evaluation.
        options: {`explain.key` or `evaluation.key`: value} over the run's config.
        sections: names of `PARTS`.
    """

    run: Path
    samples: tuple[Sample, ...]
    cache: Path
    seed: int
    options: Mapping[str, Any]
    sections: tuple[str, ...]

    def order(self) -> list[int]:
        """Returns the numbers of the parts, the longest first."""
        known = {name: number for number, name in enumerate(LONGEST)}
        ranks = [known.get(name, len(known)) for name in self.sections]
        return sorted(range(len(ranks)), key=ranks.__getitem__)

    def open(self) -> tuple[Predictor, TestSplit, Unfinished]:
        """Loads the model and what it says of the test samples."""
        predictor = Predictor.load(self.run).with_options(self.options)
        test = run_split(predictor, self.samples, self.cache)
        return predictor, test, Unfinished.of(self.run, predictor, test, self.seed)

    def do(self, opened: tuple[Predictor, TestSplit, Unfinished], part: int) -> None:
        """Measures one part and keeps it."""
        predictor, test, unfinished = opened
        measured(self.sections[part], predictor, test, self.seed, unfinished)
