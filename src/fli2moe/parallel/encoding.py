"""The features of a data set as a job: a part is one shard of one modality of one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fli2moe.config import Config
from fli2moe.data.sample import SPLITS, Dataset, Sample
from fli2moe.encoders import Encoder
from fli2moe.feature_cache import FeatureCache
from fli2moe.features import encode_missing, keys_of, missing_shards
from fli2moe.run_folder import load_encoders


@dataclass(frozen=True)
class Shard:
    """What one part encodes: samples that have a modality."""

    modality: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class EncodeJob:
    """Encodes what is not in the cache yet; who runs it holds the caches.

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
        encoder = opened[shard.modality]
        keys = keys_of(shard.samples, shard.modality, encoder.kind)
        encode_missing(FeatureCache(self.cache, encoder), shard.samples, keys, shard.modality)


def encode_job(
    config: Config, dataset: Dataset, encoders: Mapping[str, Encoder], cache: Path
) -> EncodeJob:
    """Returns the job of all that is missing, in the shards that `train` would make.

    Raises:
        InputError: when a file cannot be read.
    """
    shards: list[Shard] = []
    for modality, encoder in encoders.items():
        there, known = FeatureCache(cache, encoder), set[str]()
        for split in SPLITS:
            samples = dataset.split(split)
            keys = keys_of(samples, modality, encoder.kind)
            for part in missing_shards(there, keys, known):
                shards.append(Shard(modality, tuple(samples[i] for i in part)))
                known |= {str(keys[i]) for i in part}
    return EncodeJob(config, cache, tuple(shards))
