"""The features of a data set as a job: a part is one shard of one modality of one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fli2moe.config import Config
from fli2moe.data.sample import SPLITS, Dataset, Sample
from fli2moe.encoders import Encoder
from fli2moe.feature_cache import SHARD_ROWS, FeatureCache, content_key
from fli2moe.features import encode_samples
from fli2moe.run_folder import load_encoders


@dataclass(frozen=True)
class Shard:
    """What one part encodes: samples of a modality, as `encode_samples` would take them."""

    modality: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class EncodeJob:
    """Encodes what is not in the cache yet.

    Attributes:
        config: names the encoders.
        cache: folder of the caches.
        shards: the parts.
    """

    config: Config
    cache: Path
    shards: tuple[Shard, ...]

    def open(self) -> Mapping[str, Encoder]:
        """Loads the encoders."""
        return load_encoders(self.config)

    def do(self, opened: Mapping[str, Encoder], part: int) -> None:
        """Encodes one shard."""
        shard = self.shards[part]
        only = {shard.modality: opened[shard.modality]}
        encode_samples(shard.samples, only, self.cache)


def encode_job(
    config: Config, dataset: Dataset, encoders: Mapping[str, Encoder], cache: Path
) -> EncodeJob:
    """Returns the job of all that is missing, in the shards that `train` would make.

    Raises:
        InputError: when a file cannot be read.
    """
    shards: list[Shard] = []
    for modality, encoder in encoders.items():
        there = FeatureCache(cache, encoder)
        known: set[str] = set()
        for split in SPLITS:
            samples = [s for s in dataset.split(split) if modality in s.inputs]
            keys = [content_key(s.inputs[modality], encoder.kind, s.id) for s in samples]
            todo = [i for i in there.missing(keys) if keys[i] not in known]
            known |= {keys[i] for i in todo}
            for start in range(0, len(todo), SHARD_ROWS):
                part = tuple(samples[i] for i in todo[start : start + SHARD_ROWS])
                shards.append(Shard(modality, part))
    return EncodeJob(config, cache, tuple(shards))
