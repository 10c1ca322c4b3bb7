"""The README.md of a saved model: a model card as the Hugging Face hub shows it."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fli2moe.errors import one_line
from fli2moe.files import write_text

README = "README.md"
LABELS_SHOWN = 100

TAGS = ("fli2moe", "multimodal", "mixture-of-experts", "explainability", "interpretability")

CITATION = """\
@article{kim2026featurelevel,
  title   = {Feature-level Interaction Explanations in Multimodal Transformers},
  author  = {Kim and Babiker and Kim and Goebel},
  journal = {arXiv preprint arXiv:2603.13326},
  year    = {2026},
  url     = {https://arxiv.org/abs/2603.13326}
}"""

LIMITS = (
    "Explanations describe the model, not the world.",
    "The frozen encoders are not in this folder. Features of any other encoder are refused where "
    "the encoder is known, and give nonsense where it is not.",
    "The expert named `synergy` need not be the one that carries a synergistic label: judge the "
    "mixture first.",
    "A hidden word can still leak through its neighbours, because the encoder saw it.",
)

BASELINES = {
    "dense": "one dense transformer",
    "sparse_moe": "one transformer with a sparse mixture as feed-forward",
    "late_fusion": "the mean of one transformer for each modality",
    "early_fusion": "one MLP over the means",
}
"""What the models without interaction experts are."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelCard:
    """What a card says; names and labels may hold anything.

    Attributes:
        model: the model's name.
        modalities: {modality: D}.
        experts: names of the experts.
        parameters: number of trained parameters.
        classes: C.
        usage: Python that loads the model from the working folder.
        encoders: {modality: name of its encoder}, where they are known.
        labels: names of the classes, where they are known.
        task: `multiclass`, `multilabel` or `binary`, where it is known.
        settings: sections of the configuration, without paths.
        figures: {what: value}.
        report: file beside the card with explained samples; empty where there is none.
        notice: what is to be said of the content of its training data; our own words.
    """

    model: str
    modalities: Mapping[str, int]
    experts: Sequence[str]
    parameters: int
    classes: int
    usage: str
    encoders: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    task: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    report: str = ""
    notice: str = ""

    def to_markdown(self) -> str:
        """Returns the card: YAML front matter, then Markdown; no name in it can become markup."""
        front = {"library_name": "fli2moe", "tags": list(TAGS)}
        parts = [
            f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
            f"# {self.model} on {_listed(self.modalities)}",
            self._description(),
            *([f"> **Content notice.** {one_line(self.notice)}"] if self.notice else []),
            "## Inputs",
            "\n".join(f"- {self._input(m)}" for m in self.modalities),
            "## Labels",
            self._labels(),
            "## Use",
            _fenced("python", self.usage),
            "Loading checks the format, the widths, the labels, every file's checksum, and that "
            "the model gives the logits here that it gave where it was saved.",
        ]
        if self.settings:
            text = yaml.safe_dump(dict(self.settings), sort_keys=False).strip()
            parts += ["## Training", _fenced("yaml", text)]
        if self.figures:
            rows = [f"- {code(name)}: {value:.4g}" for name, value in self.figures.items()]
            parts += ["## Figures", "\n".join(rows)]
        if self.report:
            shown = f"{code(self.report)} beside this card shows explained samples; it is one file "
            parts += ["## Explanations", shown + "that opens from disk and loads nothing."]
        parts += ["## Limits", "\n".join(f"- {limit}" for limit in LIMITS)]
        parts += ["## Citation", _fenced("bibtex", CITATION)]
        return "\n\n".join(parts) + "\n"

    def _description(self) -> str:
        mixture = f"a mixture of {len(self.experts)} interaction experts ({_listed(self.experts)})"
        kind = BASELINES.get(self.model, mixture)
        return (
            f"A classifier made with fli2moe: {kind} over the token sequences of frozen encoders, "
            f"{self.parameters:,} trained parameters. It can be asked which parts of the inputs "
            "matter, which pairs say something only together, and which are backups of each other "
            "(FL-I2MoE, [arXiv 2603.13326](https://arxiv.org/abs/2603.13326))."
        )

    def _input(self, modality: str) -> str:
        width = f"{code(modality)}: features of width {self.modalities[modality]}"
        encoder = self.encoders.get(modality)
        return f"{width}, from {code(public_name(encoder))}" if encoder else width

    def _labels(self) -> str:
        rule = "Any number of " if self.task == "multilabel" else ""
        rule = "Exactly one of " if self.task in ("multiclass", "binary") else rule
        if not self.labels:
            return f"{rule}{self.classes} classes, without names."
        shown, more = self.labels[:LABELS_SHOWN], len(self.labels) - LABELS_SHOWN
        rest = f", and {more} more (in `config.json`)" if more > 0 else ""
        positive = "; the second is the positive class" if self.task == "binary" else ""
        return f"{rule}{self.classes}: {_listed(shown)}{rest}{positive}."


def code(text: str) -> str:
    """Returns any text as one Markdown code span, inside which nothing is markup."""
    text = one_line(text)
    fence = _fence(text, 1)
    space = " " if not text.strip() or text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}"


def public_name(encoder: str) -> str:
    """Returns an encoder's name, of a path only the last part: a folder here says nothing there."""
    is_path = encoder.startswith((".", "/", "~")) or "\\" in encoder
    return re.split(r"[/\\]", encoder.rstrip("/\\"))[-1] if is_path else encoder


def write_card(folder: Path, text: str) -> bool:
    """Writes the card into `folder`, unless a person wrote or edited the README.md that is there.

    Returns:
        whether it was written.

    Raises:
        MachineError: when the folder cannot be written, or the disk is full.
    """
    path = folder / README
    if path.exists() and not _as_written(path):
        logger.warning("%s: not as this library wrote it, so it is left as it is", path)
        return False
    write_text(path, f"{text}{_stamp(text)}")
    return True


def _listed(names: Iterable[str]) -> str:
    return ", ".join(code(name) for name in names)


def _fenced(language: str, text: str) -> str:
    """Returns a code block that no line of the text can end."""
    fence = _fence(text, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _fence(text: str, shortest: int) -> str:
    """Returns more backticks than stand together anywhere in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(shortest, longest + 1)


def _stamp(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"\n<!-- written by fli2moe; sha256 of the above: {digest} -->\n"


def _as_written(path: Path) -> bool:
    """Whether a file is exactly what `write_card` wrote."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    text, mark, _ = content.rpartition("\n<!-- written by fli2moe;")
    return bool(mark) and content == f"{text}{_stamp(text)}"
