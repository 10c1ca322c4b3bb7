"""Encoded once, read back as it was; only what changed is encoded again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fli2moe import feature_cache
from fli2moe.data.sample import Sample
from fli2moe.encoders.builtin import BuiltinPatches, BuiltinWords
from fli2moe.errors import InputError, MachineError
from fli2moe.feature_cache import FeatureCache, content_key
from fli2moe.features import default_cache, encode_samples
from fli2moe.tokens import Tokens


class Counting:
    """An encoder that remembers which inputs it was given."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.seen = inner, []
        self.kind, self.width, self.fingerprint = inner.kind, inner.width, inner.fingerprint

    def encode(self, inputs: Sequence[Any]) -> Tokens:
        self.seen += list(inputs)
        return self.inner.encode(inputs)

    def unseen(self, raw: Any) -> tuple[tuple[float, ...], ...]:
        return self.inner.unseen(raw)


def samples_of(texts: Sequence[str], folder: Path | None = None) -> list[Sample]:
    result = []
    for i, text in enumerate(texts):
        inputs: dict[str, Any] = {"text": text}
        if folder is not None:
            inputs["image"] = folder / f"{i}.png"
            if not inputs["image"].exists():
                colour = (10 * i, 255 - 10 * i, 40)
                Image.new("RGB", (20 + 16 * (i % 2), 18), colour).save(inputs["image"])
        result.append(Sample(f"s{i}", inputs, ("x",)))
    return result


TEXTS = ["a red dog", "", "one two three four five", "  ", "a red dog"]


@pytest.fixture
def words() -> Counting:
    return Counting(BuiltinWords(width=8))


def test_the_encoder_sees_each_content_once(tmp_path: Path, words: Counting):
    encode_samples(samples_of(TEXTS), {"text": words}, tmp_path)
    assert words.seen == TEXTS[:4]
    again = encode_samples(samples_of(TEXTS), {"text": words}, tmp_path)
    assert len(words.seen) == 4
    torch.testing.assert_close(
        again.batch([4])["text"].features, words.inner.encode([TEXTS[0]]).features
    )


def test_only_a_changed_row_is_encoded_whatever_the_ids(tmp_path: Path, words: Counting):
    encode_samples(samples_of(TEXTS), {"text": words}, tmp_path)
    words.seen.clear()
    changed = ["new words", *reversed(TEXTS[1:])]
    features = encode_samples(samples_of(changed), {"text": words}, tmp_path)
    assert words.seen == ["new words"]
    direct = words.inner.encode(changed)
    batch = features.batch(range(5))["text"]
    assert torch.equal(batch.mask, direct.mask)
    assert torch.equal(batch.features[batch.mask], direct.features[direct.mask])


def test_a_picture_is_known_by_its_bytes(tmp_path: Path):
    patches = Counting(BuiltinPatches(width=8))
    samples = samples_of(["a", "b"], tmp_path)
    encoders = {"image": patches}
    encode_samples(samples, encoders, tmp_path / "cache")
    patches.seen.clear()
    Image.new("RGB", (16, 16), "white").save(tmp_path / "1.png")
    features = encode_samples(samples, encoders, tmp_path / "cache")
    assert patches.seen == [tmp_path / "1.png"]
    assert features.batch([1])["image"].mask.sum() == 1


def test_rows_read_are_the_encoders_output(tmp_path: Path, words: Counting):
    patches = BuiltinPatches(width=8)
    samples = samples_of(TEXTS, tmp_path)
    features = encode_samples(samples, {"text": words, "image": patches}, tmp_path / "cache")
    assert len(features) == 5
    for encoder, name in ((words.inner, "text"), (patches, "image")):
        direct = encoder.encode([s.inputs[name] for s in samples])
        read = features.batch(range(5))[name]
        assert torch.equal(read.mask, direct.mask)
        assert torch.equal(read.features[read.mask], direct.features[direct.mask])
        assert torch.equal(read.spans, direct.spans)
        assert read.spans.dtype == direct.spans.dtype
    some = features.select([3, 0]).batch([0, 1])
    assert torch.equal(some["text"].features[1, :3], features.batch([0])["text"].features[0])
    assert not some["text"].mask[0].any()
    with pytest.raises(InputError, match="no sample"):
        features.batch([])


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux counts memory there")
def test_reading_maps_the_shards_instead_of_keeping_copies(tmp_path: Path):
    def own_bytes() -> int:  # memory that is not backed by a file
        lines = Path("/proc/self/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024

    texts = [f"{k} " * 250 for k in range(200)]  # 4 bytes each of 250 x 512 features: 100 MB
    written = encode_samples(samples_of(texts), {"text": BuiltinWords(width=512)}, tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert size > 100_000_000
    before = own_bytes()
    total = sum(float(written.batch([i])["text"].features.sum()) for i in range(200))
    assert total != 0
    assert own_bytes() - before < size / 4


def test_empty_texts_alone_still_have_a_sequence(tmp_path: Path, words: Counting):
    features = encode_samples(samples_of(["", " "]), {"text": words}, tmp_path)
    batch = features.batch([0, 1])["text"]
    assert batch.features.shape == (2, 1, 8)
    assert not batch.mask.any()
    with pytest.raises(InputError, match="no content token in the training set"):
        features.statistics()


def test_shards_are_filled_and_progress_counts_rows(
    tmp_path: Path, words: Counting, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fli2moe.features.SHARD_ROWS", 4)
    monkeypatch.setattr(feature_cache, "ENCODE_ROWS", 3)
    texts = [f"text number {i}" for i in range(10)]
    calls: list[tuple[str, int, int]] = []
    encode_samples(
        samples_of(texts), {"text": words}, tmp_path, lambda *report: calls.append(report)
    )
    assert calls == [("text", n, 10) for n in (3, 4, 7, 8, 10)]
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 3
    features = encode_samples(samples_of(texts), {"text": words}, tmp_path)
    assert len(words.seen) == 10
    direct = words.inner.encode(texts)
    assert torch.equal(features.batch(range(10))["text"].features, direct.features)


def test_two_encoders_do_not_mix(tmp_path: Path):
    narrow, wide = Counting(BuiltinWords(width=4)), Counting(BuiltinWords(width=6))
    for encoder in (narrow, wide, narrow, wide):
        batch = encode_samples(samples_of(TEXTS), {"text": encoder}, tmp_path).batch([0])
        assert batch["text"].width == encoder.width
    assert len(narrow.seen) == len(wide.seen) == 4
    assert len(list(tmp_path.iterdir())) == 2


def one_shard(tmp_path: Path) -> Path:
    encode_samples(samples_of(TEXTS), {"text": BuiltinWords(width=8)}, tmp_path)
    (shard,) = tmp_path.glob("*/*.safetensors")
    return shard


def test_a_damaged_shard_is_one_line_with_the_remedy(tmp_path: Path):
    shard = one_shard(tmp_path)
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    features = encode_samples(samples_of(TEXTS), {"text": BuiltinWords(width=8)}, tmp_path)
    with pytest.raises(InputError) as caught:
        features.batch([0])
    assert str(shard) in str(caught.value)
    assert "missing or damaged; expected sha256" in str(caught.value)
    assert "delete this shard and its .json" in str(caught.value)
    shard.unlink()
    shard.with_suffix(".json").unlink()
    test_the_encoder_sees_each_content_once(tmp_path, Counting(BuiltinWords(width=8)))


@pytest.mark.parametrize("content", ["{", '{"keys": ["a"]}', '{"keys": 1, "lengths": 2}', "[]"])
def test_a_damaged_sidecar_is_one_line_with_the_remedy(tmp_path: Path, content: str):
    sidecar = one_shard(tmp_path).with_suffix(".json")
    sidecar.write_text(content)
    with pytest.raises(InputError, match=r"\.json: .*delete this shard and its \.json"):
        encode_samples(samples_of(TEXTS), {"text": BuiltinWords(width=8)}, tmp_path)


@pytest.mark.parametrize("missing", [".json", ".safetensors"])
def test_half_a_shard_is_no_shard(tmp_path: Path, words: Counting, missing: str):
    one_shard(tmp_path).with_suffix(missing).unlink()
    features = encode_samples(samples_of(TEXTS), {"text": words}, tmp_path)
    assert len(words.seen) == 4
    assert features.batch([0])["text"].mask.sum() == 3


def test_a_key_is_not_written_twice(tmp_path: Path):
    shard = one_shard(tmp_path)
    keys = json.loads(shard.with_suffix(".json").read_text())["keys"]
    assert len(keys) == len(set(keys)) == 4
    cache = FeatureCache(tmp_path, BuiltinWords(width=8))
    assert cache.missing([*keys, "new", "new"]) == [4]


class Bad(BuiltinWords):
    """Gives NaN for the word `bad`, and cannot read `worse`."""

    error: type[InputError] = InputError

    def encode(self, inputs: Sequence[str]) -> Tokens:
        for text in inputs:
            if "worse" in text:
                raise self.error("Bad", "cannot read it", "another text", "change it")
        tokens = super().encode(inputs)
        for row, text in enumerate(inputs):
            if "bad" in text.split():
                tokens.features[row, text.split().index("bad"), 2] = float("nan")
        return tokens


def test_nan_features_are_named_by_sample_and_token(tmp_path: Path):
    samples = samples_of(["fine", "also fine", "this is bad", "fine too"])
    with pytest.raises(InputError) as caught:
        encode_samples(samples, {"text": Bad(width=4)}, tmp_path)
    assert str(caught.value).startswith(
        "sample s2, modality text: NaN or infinite feature at token 2"
    )
    assert "float32" in str(caught.value)
    assert not list(tmp_path.glob("*/*"))


def test_nan_at_padding_is_no_fault(tmp_path: Path):
    class Padded(BuiltinWords):
        def encode(self, inputs: Sequence[str]) -> Tokens:
            tokens = super().encode(inputs)
            tokens.features[~tokens.mask] = float("nan")
            return tokens

    features = encode_samples(samples_of(TEXTS), {"text": Padded(width=4)}, tmp_path)
    assert torch.isfinite(features.batch(range(5))["text"].features).all()


@pytest.mark.parametrize("error", [InputError, MachineError])
def test_an_encoders_error_gets_the_samples_name(tmp_path: Path, error: type[InputError]):
    encoder = Bad(width=4)
    encoder.error = error
    samples = samples_of(["fine", "fine too", "much worse"])
    with pytest.raises(error) as caught:
        encode_samples(samples, {"text": encoder}, tmp_path)
    expected = "sample s2, modality text: Bad: cannot read it; expected another text; change it"
    assert str(caught.value) == expected
    assert type(caught.value) is error


def test_a_missing_picture_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"sample s9: cannot read .*gone\.png: No such file"):
        content_key(tmp_path / "gone.png", "image", "s9")


def test_lone_surrogates_have_a_key():
    assert content_key("\ud800", "text", "s") != content_key("\ud801", "text", "s")


def test_statistics_and_means_are_those_of_plain_numpy(tmp_path: Path):
    samples = samples_of(TEXTS, tmp_path)
    encoders = {"text": BuiltinWords(width=8), "image": BuiltinPatches(width=8)}
    features = encode_samples(samples, encoders, tmp_path / "cache")
    for name, encoder in encoders.items():
        direct = encoder.encode([s.inputs[name] for s in samples])
        rows = [x[c].double().numpy() for x, c in zip(direct.features, direct.content, strict=True)]
        flat = np.concatenate(rows)
        for batch_rows in (2, 256):
            found = features.statistics(batch_rows)[name]
            np.testing.assert_allclose(found.mean, flat.mean(0), atol=1e-6)
            np.testing.assert_allclose(found.deviation, flat.std(0), atol=1e-5)
            pooled = features.pooled(batch_rows)[name]
            means = [r.mean(0) if len(r) else np.zeros(8) for r in rows]
            np.testing.assert_allclose(pooled, np.stack(means), atol=1e-6)


def test_the_cache_stands_beside_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert default_cache(tmp_path / "runs" / "x") == tmp_path / "runs" / "features"
    monkeypatch.chdir(tmp_path)
    assert default_cache(None) == tmp_path / "features"


def test_memory_that_runs_out_while_encoding_costs_nothing_but_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    samples = [
        Sample(str(n), {"text": f"word {n} and another"}, ("a",), "train") for n in range(20)
    ]
    encoder = BuiltinWords(max_tokens=8)
    whole = encode_samples(samples, {"text": encoder}, tmp_path / "a").batch(range(20))
    asked: list[int] = []

    class Small:
        def __getattr__(self, name: str) -> Any:
            return getattr(encoder, name)

        def encode(self, inputs: Any) -> Any:
            asked.append(len(inputs))
            if len(inputs) > 4:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return encoder.encode(inputs)

    found = encode_samples(samples, {"text": Small()}, tmp_path / "b").batch(range(20))
    assert asked[:3] == [16, 8, 4]
    assert torch.equal(found["text"].features, whole["text"].features)
    assert "from now on 4 inputs" in caplog.text

    class None_(Small):  # noqa: N801
        def encode(self, inputs: Any) -> Any:
            raise MemoryError

    with pytest.raises(MachineError, match="sample 0, modality text: out of memory"):
        encode_samples(samples, {"text": None_()}, tmp_path / "c")


def test_two_commands_on_one_cache_encode_each_row_once(tmp_path: Path):
    code = """
import sys, time
from pathlib import Path
from fli2moe.data.sample import Sample
from fli2moe.encoders.builtin import BuiltinWords
from fli2moe.features import encode_samples
own = BuiltinWords(max_tokens=8)
count = 0
class Slow:
    def __getattr__(self, name): return getattr(own, name)
    def encode(self, inputs):
        global count
        count += len(inputs)
        time.sleep(0.05)
        return own.encode(inputs)
samples = [Sample(str(n), {"text": f"word {n}"}, ("a",), "train") for n in range(300)]
print("ready", flush=True)
sys.stdin.readline()
encode_samples(samples, {"text": Slow()}, Path(sys.argv[1]))
print(count, flush=True)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate(timeout=60)[0]) for process in both]
    assert sorted(counts) == [0, 300]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
