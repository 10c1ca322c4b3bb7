"""Pair scores over a data set: by word, image region, class and expert, with intervals."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.explanation import Explanation
from fli2moe.tokens import Player

if TYPE_CHECKING:
    import pandas

FORMAT = "fli2moe/global-view/1"
KINDS = ("synergy", "redundancy")
PARTS = ("word", "region", "class", "head")
ORDERS = {"value": "mean", "frequency": "n", "lower": "low"}
COLUMNS = ("mean", "low", "high", "n", "measurement_error", "audited")
TOP, MIDDLE = ("top left", "top", "top right"), ("left", "middle", "right")
THIRDS = (*TOP, *MIDDLE, "bottom left", "bottom", "bottom right")
CHUNK = 2_000_000  # numbers of one block of the bootstrap: 16 MB

Floats = NDArray[np.float64]
Label = tuple[str, str]  # modality ("" where the name says it) and name
Key = tuple[tuple[Label, ...], ...]  # one tuple of labels for each part of `by`


class GlobalRow(NamedTuple):
    """One key of a `GlobalView` with its columns; prints as `red × top left: +1.84 [1.2, 2.3]`."""

    key: tuple[str, ...]
    mean: float
    low: float
    high: float
    n: int
    measurement_error: float
    audited: float

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{' × '.join(self.key)}: {self.mean:+.3g}{interval} (n = {self.n})"


@dataclass(frozen=True, eq=False, repr=False)
class GlobalView:
    """Mean pair scores of the K keys of a data set, sorted by key; equal where `to_json` is.

    Attributes:
        keys: one name for each part of `by`.
        mean: (K,) over the explanations in which the key occurs, in units of the score (logits).
        low, high: (K,) ends of the interval, NaN where the key occurs in fewer than two samples.
        n: (K,) explanations in which the key occurs.
        measurement_error: (K,) standard error of the mean that stems from measuring the pairs;
            NaN where that of a pair is unknown.
        audited: (K,) share of the summed pairs that were audited; 0 where nothing was screened.
        left_out: number of keys that occur in fewer than `least` explanations.
        settings: the arguments, `explanations` and `samples` (how many), `pairs` (scored ones) and
            `pairs_left_out` (those of them without a part of the key), `fingerprint`.
    """

    keys: tuple[tuple[str, ...], ...]
    mean: Floats
    low: Floats
    high: Floats
    n: NDArray[np.int64]
    measurement_error: Floats
    audited: Floats
    left_out: int
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        for name in COLUMNS:
            if getattr(self, name).shape != (len(self),):
                found = f"shape {getattr(self, name).shape}"
                raise InputError(f"GlobalView.{name}", found, f"({len(self)},)")

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        s = self.settings
        keys = f"{s['kind']}, {len(self)} keys by {' × '.join(s['by'])}, {self.left_out} left out"
        return f"GlobalView({keys}; {s['explanations']} explanations of {s['samples']} samples)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GlobalView):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.keys, self.left_out, tuple(self.n.tolist())))

    def top(self, k: int, by: str = "value") -> list[GlobalRow]:
        """Returns the k first rows; ties go to the larger mean, then to the order of the keys.

        Args:
            k: how many.
            by: `value` (mean), `frequency` (n) or `lower` (lower end of the interval: large *and*
                sure; keys without an interval come last).

        Raises:
            InputError: when `by` is unknown.
        """
        if by not in ORDERS:
            raise unknown_name("GlobalView.top", "order", by, ORDERS)
        rows = np.lexsort((-self.mean, -getattr(self, ORDERS[by])))[: max(k, 0)]  # NaN sorts last
        columns = [getattr(self, name)[rows].tolist() for name in COLUMNS]
        return [GlobalRow(self.keys[r], *values) for r, *values in zip(rows, *columns, strict=True)]

    def to_dataframe(self) -> pandas.DataFrame:
        """Returns a pandas frame: one column for each part of `by`, then the columns."""
        import pandas

        parts = {part: [key[i] for key in self.keys] for i, part in enumerate(self.settings["by"])}
        return pandas.DataFrame({**parts, **{name: getattr(self, name) for name in COLUMNS}})

    def to_json(self) -> str:
        """Returns one JSON document; floats round-trip exactly, unknown ones are null."""
        data = {**vars(self), "format": FORMAT}
        for name in COLUMNS:
            data[name] = [x if math.isfinite(x) else None for x in data[name].tolist()]
        return json.dumps(data, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> GlobalView:
        """Returns what `to_json` wrote.

        Raises:
            InputError: when it is not a global view of this format.
        """
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise ValueError("another format")
            for name in COLUMNS:
                kind = np.int64 if name == "n" else np.float64
                data[name] = np.array([np.nan if x is None else x for x in data[name]], dtype=kind)
            data["keys"] = tuple(tuple(key) for key in data["keys"])
            return GlobalView(**data)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError("global view", f"not readable: {error}", f"JSON {FORMAT}") from None


def global_view(
    explanations: Iterable[Explanation],
    kind: str = "synergy",
    by: Sequence[str] = ("word", "region"),
    head: str | None = None,
    regions: int = 3,
    least: int = 2,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> GlobalView:
    """Returns which words, image regions, classes and experts have strong pairs over a data set.

    In each explanation the scores of all pairs with the same key are summed; the mean is over the
    explanations in which the key occurs (our definition). A pair without a row was never scored and
    does not count as 0. Intervals: percentile bootstrap (Efron 1979) over samples, so that the
    explanations of one sample are drawn together; draws in which a key does not occur say nothing
    of it. They are too narrow for keys of few samples. `measurement_error` = sqrt(sum of squared
    standard errors) / n, as if the errors of pairs were independent: where it is much smaller than
    the interval, the samples differ.

    A player with a pixel box has a region, any other player is a word: a run of grouped words is
    one word, a vector goes by its position. Names are case-folded, punctuation at their ends is
    dropped. A pair of two words (or two pictures) has both as one `word` (or `region`), sorted:
    `cat × dog`. Where the keys hold several text (picture) modalities, each name says its own. A
    pair that lacks a part of `by` is left out and counted.

    Args:
        explanations: of one model; of any number of samples and targets.
        kind: `synergy` (SII) or `redundancy` (redundancy gap).
        by: the parts of a key: `word`; `region`, the cell of a grid over the picture in which the
            centre of the box lies; `class`, the explained target; `head`, all heads side by side.
        head: whose scores, where `head` is no part of the key; the first (the mixture) by default.
        regions: rows and columns of the grid.
        least: keys in fewer explanations are left out and counted.
        resamples: of the bootstrap.
        confidence: of the intervals.
        seed: of the bootstrap; the order of the explanations does not matter.

    Raises:
        InputError: an unknown name, a number out of range, no explanation, explanations of several
            models, a region asked for without the picture's size, or no pair that has the key.
    """
    _check(kind, by, head, {"regions": regions, "least": least, "resamples": resamples})
    if not 0 < confidence < 1:
        raise InputError("confidence", str(confidence), "above 0 and below 1")
    sums = _Sums(kind, tuple(by), head, regions)
    for explanation in explanations:
        sums.add(explanation)
    names = sums.names()
    order = sorted(range(len(names)), key=names.__getitem__)
    samples, sample = np.unique(sums.samples, return_inverse=True)
    sample = np.repeat(sample, [len(ids) for ids in sums.keys])
    key = np.argsort(order)[np.concatenate(sums.keys)]
    table = np.concatenate(sums.columns, axis=1)  # (4, entries): one for a key in an explanation
    counts = np.bincount(key)
    keep = counts >= least
    rows = np.lexsort((*table[::-1], sample, key))  # the same to the last bit in any order given
    rows = rows[keep[key[rows]]]
    sample, table, n = sample[rows], table[:, rows], counts[keep]
    columns = np.add.reduceat(table, np.cumsum(n) - n, axis=1) if len(n) else table
    value, variance, audited, pairs = columns
    low, high = _intervals(table[0], sample, n, len(samples), resamples, confidence, seed)
    settings: dict[str, Any] = {"kind": kind, "by": list(by), "head": sums.head, "regions": regions}
    settings |= {"least": least, "resamples": resamples, "confidence": confidence, "seed": seed}
    settings |= {"explanations": len(sums.samples), "samples": len(samples), "pairs": sums.pairs}
    settings |= {"pairs_left_out": sums.left_out, "fingerprint": sums.fingerprint}
    kept = tuple(names[i] for i, k in zip(order, keep, strict=True) if k)
    error, left_out = np.sqrt(variance) / n, int((~keep).sum())
    return GlobalView(kept, value / n, low, high, n, error, audited / pairs, left_out, settings)


class _Sums:
    """What each explanation says of each key: sums over its pairs."""

    def __init__(self, kind: str, by: tuple[str, ...], head: str | None, regions: int) -> None:
        self.kind, self.by, self.head, self.regions = kind, by, head, regions
        self.ids: dict[Key, int] = {}
        self.samples: list[str] = []
        self.keys: list[NDArray[np.int64]] = []  # of each explanation
        self.columns: list[Floats] = []  # (4, keys): value, variance, audited pairs, pairs
        self.pairs = self.left_out = 0
        self.fingerprint = ""

    def add(self, made: Explanation) -> None:
        if not self.samples:
            self.fingerprint = made.fingerprint
            self.head = self.head or (None if "head" in self.by else made.heads[0])
        if made.fingerprint != self.fingerprint:
            found = f"models {self.fingerprint!r} and {made.fingerprint!r}"
            raise InputError("explanations", found, "one model", "call once for each")
        if self.head is not None and self.head not in made.heads:
            raise unknown_name("global_view", "head", self.head, made.heads)
        self.samples.append(made.sample_id)
        table = made.pairs.get(self.kind)
        rows: list[int] = []
        ids: list[int] = []
        columns = np.empty((4, 0))
        if table is not None:  # a sample that lacks a modality has no pairs
            labels = [self._label(player, made) for player in table.players]
            for r in np.flatnonzero(np.isfinite(table.value)).tolist():
                head, pair = table.head[r], (labels[table.first[r]], labels[table.second[r]])
                if self.head in (None, head):
                    key = tuple(_labels(part, pair, made.target, head) for part in self.by)
                    self.pairs += 1
                    self.left_out += not all(key)
                    if all(key):
                        rows.append(r)
                        ids.append(self.ids.setdefault(key, len(self.ids)))
            audited = np.nan_to_num(table.columns.get("audited", np.zeros(len(table))))
            columns = np.stack([table.value, table.standard_error**2, audited, np.ones(len(table))])
        keys, place = np.unique(np.array(ids, dtype=np.int64), return_inverse=True)
        self.keys.append(keys)
        self.columns.append(np.stack([np.bincount(place, c, len(keys)) for c in columns[:, rows]]))

    def _label(self, player: Player, made: Explanation) -> tuple[str, Label]:
        """Whether the player is a `word` or has a `region`, and what it is called."""
        m = player.modality
        if not player.spans or any(len(span) != 4 for span in player.spans):
            name = str(player)
            bare = name.startswith(f"{m}[")  # `lab[3]` says its modality
            return "word", ("", name) if bare else (m, _folded(name))
        if "region" not in self.by:
            return "region", (m, "")
        if m not in made.sizes:
            found = f"sample {made.sample_id!r} has no size of the picture {m!r}"
            remedy = "leave 'region' out of `by`"
            raise InputError("global_view", found, "`Explanation.sizes`", remedy)
        boxes = np.array(player.spans)
        centre = (boxes[:, :2].min(axis=0) + boxes[:, 2:].max(axis=0)) / 2
        cell = (centre / np.array(made.sizes[m]) * self.regions).clip(0, self.regions - 1)
        column, row = int(cell[0]), int(cell[1])
        if self.regions == 3:
            return "region", (m, THIRDS[3 * row + column])
        size = self.regions
        return "region", (m, f"row {row + 1} of {size}, column {column + 1} of {size}")

    def names(self) -> list[tuple[str, ...]]:
        """Returns what a person reads for each key, in the order of the ids."""
        if not self.samples:
            raise InputError("explanations", "none", "at least one", "run `fli2moe explain` first")
        if not self.pairs:
            found = f"no {self.kind} pair of head {self.head or 'any'!r} was scored"
            raise InputError("global_view", found, "", "name another head or kind")
        if not self.ids:
            found, remedy = f"no pair has {' and '.join(self.by)}", "leave one out of `by`"
            raise InputError("global_view", found, "parts that pairs have", remedy)
        parts = range(len(self.by))
        several = [len({m for key in self.ids for m, _ in key[i] if m}) > 1 for i in parts]

        def shown(label: Label, say: bool) -> str:
            return f"{label[0]} {label[1]}" if say and label[0] else label[1]

        return [
            tuple(" × ".join(shown(x, several[i]) for x in key[i]) for i in parts)
            for key in self.ids
        ]


def _labels(
    part: str, pair: tuple[tuple[str, Label], tuple[str, Label]], target: str, head: str
) -> tuple[Label, ...]:
    if part in ("class", "head"):
        return (("", target if part == "class" else head),)
    return tuple(sorted(label for kind, label in pair if kind == part))


def _folded(name: str) -> str:
    folded = name.casefold().strip()
    core = [i for i, c in enumerate(folded) if unicodedata.category(c)[0] not in "PZ"]
    return folded[core[0] : core[-1] + 1] if core else folded


def _intervals(
    value: Floats,
    sample: NDArray[np.int64],
    n: NDArray[np.int64],
    samples: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[Floats, Floats]:
    """Ends (K,) of the percentile intervals; entries lie sorted by key, then by sample.

    All keys see the same draws of samples. The statistic of a draw is a ratio of two sums.
    """
    generator = np.random.default_rng(seed)
    times = np.empty((samples, resamples), dtype=np.uint16)  # how often a sample is drawn
    for r in range(resamples):
        times[:, r] = np.bincount(generator.integers(samples, size=samples), minlength=samples)
    low, high = np.full((2, len(n)), np.nan)
    ends = np.cumsum(n)
    done = 0
    while done < len(n):  # blocks of keys
        first = ends[done] - n[done]
        stop = np.searchsorted(ends, first + CHUNK // resamples, side="right")
        block = slice(done, max(int(stop), done + 1))
        entries = slice(first, ends[block][-1])
        starts = ends[block] - n[block] - first
        drawn = times[sample[entries]]  # (entries, resamples)
        count = np.add.reduceat(drawn, starts, axis=0, dtype=np.int64)
        total = np.add.reduceat(drawn * value[entries, None], starts, axis=0)
        mean = np.full(total.shape, np.nan)
        np.divide(total, count, out=mean, where=count > 0)
        other = sample[entries] != np.repeat(sample[starts + first], n[block])
        mean[~np.logical_or.reduceat(other, starts)] = np.nan  # one sample: nothing to vary
        mean.sort(axis=1)  # NaN, where the key was not drawn, goes last
        found = (count > 0).sum(axis=1)
        low[block] = _quantile(mean, found, (1 - confidence) / 2)
        high[block] = _quantile(mean, found, (1 + confidence) / 2)
        done = block.stop
    return low, high


def _quantile(ordered: Floats, found: NDArray[np.int64], q: float) -> Floats:
    """Linear interpolation between the first `found` values of each row."""
    place = q * np.maximum(found - 1, 0)
    row, below = np.arange(len(ordered)), np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(found - 1, 0))
    share = place - below
    return (1 - share) * ordered[row, below] + share * ordered[row, above]


def _check(kind: str, by: Sequence[str], head: str | None, counts: dict[str, int]) -> None:
    if kind not in KINDS:
        raise unknown_name("global_view", "kind", kind, KINDS)
    if isinstance(by, str) or not by or len(set(by)) < len(by):
        raise InputError("by", repr(by), "different names in a tuple", f"of {', '.join(PARTS)}")
    for part in by:
        if part not in PARTS:
            raise unknown_name("global_view", "part of `by`", part, PARTS)
    if head is not None and "head" in by:
        raise InputError("head", repr(head), "None where `by` holds 'head'", "leave one out")
    for name, count in counts.items():
        if count < 1:
            raise InputError(name, str(count), "at least 1")
