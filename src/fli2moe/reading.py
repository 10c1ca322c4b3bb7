"""The data of a configuration as far as they can be used: bad samples stop it, or are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fli2moe.config import Config
from fli2moe.data.load import check_share
from fli2moe.data.rejects import Rejected, rejected
from fli2moe.data.sample import SPLITS, Dataset, Sample
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError
from fli2moe.features import Progress, encode_samples


def usable(
    dataset: Dataset,
    config: Config,
    encoders: Mapping[str, Encoder],
    cache: Path,
    progress: Progress | None = None,
) -> Dataset:
    """Returns a data set; with `data.on_bad: skip` without the samples that cannot be encoded.

    Args:
        dataset: as `load_dataset` read it.
        config: its `data` section.
        encoders: {modality: encoder}.
        cache: folder of the feature cache, which is filled on the way where samples may be skipped.
        progress: called while encoding.

    Raises:
        InputError: when more than `data.max_bad_share` of the samples would be left out.
    """
    if config.data.on_bad == "stop":
        return dataset
    splits = (dataset.split(name) for name in SPLITS)
    bad = [r for samples in splits for r in unreadable(samples, encoders, cache, progress)]
    if not bad:
        return dataset
    names = {reject.id for reject in bad}
    kept = tuple(s for s in dataset.samples if s.id not in names)
    dataset = replace(dataset, samples=kept, rejected=(*dataset.rejected, *bad))
    check_share(dataset.source, dataset.rejected, len(kept), config.data.max_bad_share)
    return dataset


def unreadable(
    samples: Sequence[Sample],
    encoders: Mapping[str, Encoder],
    cache: Path,
    progress: Progress | None = None,
) -> list[Rejected]:
    """Fills the cache, and returns the samples that cannot be encoded.

    Many are encoded at once; only where one of them fails, each by itself.
    """
    try:
        encode_samples(samples, encoders, cache, progress)
    except InputError:
        pass
    else:
        return []
    found = []
    for sample in samples:
        try:
            encode_samples([sample], encoders, cache)
        except InputError as error:
            found.append(rejected(sample.id, sample.inputs, error))
    return found
