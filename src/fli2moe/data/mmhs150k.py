"""MMHS150K (Gomez et al. 2020): 150,000 tweets with a picture, three annotators each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fli2moe.data.labels import LabelBook
from fli2moe.data.modalities import check_modalities
from fli2moe.data.paths import PathRules
from fli2moe.data.problems import RowFaults, raise_first, shown
from fli2moe.data.sample import SPLITS, Dataset, Sample
from fli2moe.errors import InputError, unknown_name
from fli2moe.files import read_json

CLASSES = ("NotHate", "Racist", "Sexist", "Homophobe", "Religion", "OtherHate")
"""What the annotators' numbers 0 to 5 stand for."""
BINARY_CLASSES = ("NotHate", "Hate")
ANNOTATORS = 3
NOTICE = (
    "MMHS150K holds hateful and offensive tweets and pictures; they are shown as they were "
    "collected, and so is what its annotators called them."
)
"""What a reader of a report is told."""

MODALITIES = ("image", "text")
TRUTH, PICTURE_TEXTS = "MMHS150K_GT.json", "img_txt"
_PICTURE, _LISTED = "img_resized/{id}.jpg", "splits/{split}_ids.txt"
_LAYOUT = (
    f"a folder with {TRUTH}, img_resized/<id>.jpg, splits/train_ids.txt, splits/val_ids.txt and "
    f"splits/test_ids.txt ({PICTURE_TEXTS}/<id>.json for data.ocr)"
)
_SOURCE = "download MMHS150K.zip by gombru.github.io/2019/10/09/MMHS and unpack it there"


def read_mmhs150k(
    folder: str | Path,
    *,
    modalities: Sequence[str] = MODALITIES,
    labels: Literal["multiclass", "binary"] = "multiclass",
    ocr: bool = False,
) -> Dataset:
    """Reads MMHS150K with its own split (134,823 / 5,000 / 10,000).

    Nothing is taken out of a tweet: links, names and hashtags stay, hateful words too.

    Args:
        folder: the folder with `MMHS150K_GT.json`, `img_resized`, `splits` and `img_txt`.
        modalities: image, text, or both.
        labels: `multiclass`: the label that two or three of the three annotators gave; tweets with
            three different ones are left out and counted in a note (ours). `binary`: Hate where at
            least two of the three gave anything but NotHate, whatever it was; nothing is left out.
        ocr: append the text found in the picture to the tweet's, on a line of its own; pictures
            without one are counted in a note.

    Raises:
        InputError: when a modality is unknown, a file is missing or damaged, a tweet has other
            than three labels out of 0 to 5, or the data set is not there (says where to get it).
    """
    folder = Path(folder)
    check_modalities(modalities, MODALITIES)
    if labels not in ("multiclass", "binary"):
        raise unknown_name("labels", "kind of labels", labels, ("multiclass", "binary"))
    truth = folder / TRUTH
    if not truth.is_file():
        found = f"no {TRUTH} here" if folder.is_dir() else "no such folder"
        raise InputError(str(folder), found, _LAYOUT, _SOURCE)
    tweets = _tweets(truth)
    ocr = ocr and "text" in modalities
    with_text = _names(folder / PICTURE_TEXTS) if ocr else frozenset()
    paths = PathRules(folder)
    book = LabelBook("labels", "|", False, CLASSES if labels == "multiclass" else BINARY_CLASSES)
    samples, tied, bare, seen = [], 0, 0, 0
    for id, split, faults in _listed(folder):
        seen += 1
        tweet = _tweet(tweets, id, truth, faults)
        name = _class(_given(tweet, id, truth), labels)
        if name is None:
            tied += 1
            continue
        inputs: dict[str, str | Path] = {}
        if "image" in modalities:
            inputs["image"] = _file(_PICTURE.format(id=id), paths, faults)
        if "text" in modalities:
            inputs["text"] = _tweet_text(tweet, id, truth)
        if ocr:
            file = f"{id}.json"
            found = _picture_text(file, paths, faults) if file in with_text else ""
            bare += not found
            inputs["text"] = f"{inputs['text']}\n{found}" if found else inputs["text"]
        book.count((name,), split, faults)
        samples.append(Sample(id, inputs, (name,), split))
    classes = book.finish(str(truth), raise_first)
    return Dataset(
        samples=tuple(samples),
        classes=classes,
        modalities={m: m for m in modalities},
        source=str(folder),
        notes=(*_notes(tied, len(tweets) - seen, bare), *book.notes(classes)),
        notice=NOTICE,
    )


def _tweets(path: Path) -> dict[str, Any]:
    tweets = read_json(path, "unpack it again")
    if not isinstance(tweets, dict):
        expected = '{id: {"tweet_text": ..., "labels": [...]}}'
        raise InputError(str(path), f"JSON of type {type(tweets).__name__}", expected)
    return tweets


def _names(folder: Path) -> frozenset[str]:
    """Returns the names of the files in the folder of the pictures' texts."""
    if not folder.is_dir():
        remedy = "unpack it from MMHS150K.zip, or set data.ocr: false"
        raise InputError(str(folder), "no such folder", f"{PICTURE_TEXTS}/<id>.json", remedy)
    return frozenset(path.name for path in folder.iterdir())


def _listed(folder: Path) -> Iterator[tuple[str, str, RowFaults]]:
    """Yields (id, split, where to report) of every tweet of the three lists."""
    places: dict[str, str] = {}
    for split in SPLITS:
        path = folder / _LISTED.format(split=split)
        number = 0
        for number, line in enumerate(_lines(path), start=1):
            id = line.strip()
            if not id:
                continue
            place = f"{path.name} line {number}"
            first = places.setdefault(id, place)
            faults = RowFaults(raise_first, str(path), "line", number, id)
            if first != place:
                found = f"the id stands twice ({first} and {place})"
                faults(None, found, "a tweet once", "remove one of the lines")
            yield id, split, faults
        if not number:
            raise InputError(str(path), "an empty file", "one id a line", "unpack it again")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(str(path), "no such file", _LAYOUT, _SOURCE) from None
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"not readable: {error}", "one id a line") from None


def _file(name: str, paths: PathRules, faults: RowFaults) -> Path:
    path = paths.resolve(name, "id", faults)
    assert path is not None  # the sink raises
    return path


def _tweet(tweets: dict[str, Any], id: str, path: Path, faults: RowFaults) -> dict[str, Any]:
    if id not in tweets:
        faults(None, f"the id is not in {TRUTH}", "ids of its tweets", "remove the line")
    tweet = tweets[id]
    if not isinstance(tweet, dict):
        found = f"JSON of type {type(tweet).__name__}"
        raise InputError(f"{path}, id {shown(id)}", found, '{"tweet_text": ..., "labels": [...]}')
    return tweet


def _tweet_text(tweet: Mapping[str, Any], id: str, path: Path) -> str:
    text = tweet.get("tweet_text")
    if not isinstance(text, str):
        found = f"{text!r}" if "tweet_text" in tweet else "missing"
        raise InputError(f"{path}, id {shown(id)}, key 'tweet_text'", shown(found), "a text")
    return text


def _given(tweet: Mapping[str, Any], id: str, path: Path) -> list[int]:
    """Returns the numbers that the three annotators gave a tweet."""
    where = f"{path}, id {shown(id)}, key 'labels'"
    expected = f"{ANNOTATORS} whole numbers from 0 to {len(CLASSES) - 1}, one an annotator"
    given = tweet.get("labels")
    if not isinstance(given, list):
        found = shown(repr(given)) if "labels" in tweet else "missing"
        raise InputError(where, found, expected)
    for label in given:
        if type(label) is not int or not 0 <= label < len(CLASSES):
            raise InputError(where, f"unknown label {shown(repr(label))}", expected)
    if len(given) != ANNOTATORS:
        remedy = f"take the tweet out of splits/*_ids.txt, or mend {TRUTH}"
        raise InputError(where, f"labels of {len(given)} annotators, {given}", expected, remedy)
    return given


def _class(given: Sequence[int], labels: str) -> str | None:
    """Returns the class that most annotators gave, or None where no two of them agree."""
    if labels == "binary":
        return BINARY_CLASSES[2 * sum(label != 0 for label in given) > len(given)]
    label, votes = Counter(given).most_common(1)[0]
    return CLASSES[label] if 2 * votes > len(given) else None


def _picture_text(name: str, paths: PathRules, faults: RowFaults) -> str:
    """Returns the text that was found in a picture, without space around it."""
    path = _file(f"{PICTURE_TEXTS}/{name}", paths, faults)
    content = read_json(path, "unpack it again, or set data.ocr: false")
    text = content.get("img_text") if isinstance(content, dict) else None
    if not isinstance(text, str):
        found = f"no text under 'img_text' in {shown(repr(content))}"
        raise InputError(str(path), found, '{"img_text": ...}', "unpack it again")
    return text.strip()


def _notes(tied: int, unlisted: int, bare: int) -> list[str]:
    notes = []
    if tied:
        notes.append(f"{tied} tweets with three different labels left out")
    if unlisted:
        notes.append(f"{unlisted} tweets that are in no split left out")
    if bare:
        notes.append(f"no text was found in the pictures of {bare} tweets")
    return notes
