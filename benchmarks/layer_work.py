"""What `layer.py` measures: settings, and the same work done by the library and by its oracle."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from oracles.attribution import attention_gradient
from oracles.model import OracleModel
from oracles.steps import batch_of, oracle_step, product_step, trainee_of
from torch import Tensor

from fli2moe.config import ModelConfig
from fli2moe.explain.attribution import attribute
from fli2moe.explain.model_game import model_game
from fli2moe.model import FusionTransformer, build_model
from fli2moe.tokens import Player, TokenBatch, Tokens

ROOT = Path(__file__).resolve().parent.parent

Work = Callable[[int], object]
"""Does the work once; the number seeds what is drawn."""

WHO = ("oracle", "fp32", "bf16")
COALITIONS, CHUNK = 128, 32


@dataclass(frozen=True)
class Setting:
    """Sizes of a model and of a batch without padding."""

    name: str
    batch: int
    tokens: dict[str, int]
    classes: int
    multilabel: bool
    hidden: int = 256
    width: int = 768


SETTINGS = {
    s.name: s
    for s in (
        Setting("A1", 4, {"text": 128, "image": 196}, 23, True),
        Setting("A1l", 4, {"text": 320, "image": 196}, 23, True),
        Setting("A2", 4, {"screenshot": 196, "wireframe": 196}, 20, False),
        Setting("A3", 32, {"text": 16, "image": 16}, 4, False, hidden=128),
    )
}
MASKED = Setting("masked", 1, {"text": 64, "image": 196}, 23, True)


def make(setting: Setting, dropout: float, seed: int) -> tuple[FusionTransformer, TokenBatch]:
    """A fresh model with the published sizes, every dropout at one rate, and random features."""
    config = ModelConfig.model_validate(
        {
            "hidden": setting.hidden,
            "heads": 4,
            "layers": 2,
            "dropout": dropout,
            "attention_dropout": dropout,
            "router": {"dropout": dropout},
        }
    )
    torch.manual_seed(seed)
    model = build_model(config, dict.fromkeys(setting.tokens, setting.width), setting.classes)
    tokens = {}
    for m, length in setting.tokens.items():
        place = torch.arange(length)
        spans = torch.stack([place, place + 1], -1).expand(setting.batch, -1, -1)
        mask = torch.ones(setting.batch, length, dtype=torch.bool)
        tokens[m] = Tokens(torch.randn(setting.batch, length, setting.width), mask, spans)
    return model, TokenBatch(tokens)


def autocast(who: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=who == "bf16")


def step(setting: Setting, dropout: float, seed: int, who: str) -> Work:
    """Task loss + .5 interaction losses with noise, forward and backward, no optimiser."""
    model, tokens = make(setting, dropout, seed)
    model.train()
    batch = batch_of(tokens, setting.classes, multilabel=setting.multilabel, seed=seed)
    if who == "oracle":
        oracle = OracleModel.of(model)

        def run(number: int) -> None:
            oracle.zero_grad()
            oracle_step(oracle, batch, number)

        return run
    trainee = trainee_of(model, batch)

    def run_ours(number: int) -> None:
        model.zero_grad()
        product_step(trainee, batch, number, bf16=who == "bf16")

    return run_ours


def forward(setting: Setting, seed: int, who: str) -> Work:
    """The logits of a batch, without gradients."""
    model, tokens = make(setting, 0.5, seed)
    model.eval()
    run = OracleModel.of(model) if who == "oracle" else model

    def work(number: int) -> None:
        with torch.no_grad(), autocast(who):
            run(tokens)

    return work


def attribution(setting: Setting, seed: int, who: str) -> Work:
    """Attention x gradient of every head."""
    model, tokens = make(setting, 0.5, seed)
    model.eval()
    oracle = OracleModel.of(model)
    target = torch.eye(setting.classes)[torch.arange(setting.batch) % setting.classes]

    def work(number: int) -> None:
        with autocast(who):
            if who == "oracle":
                attention_gradient(oracle, tokens, target)
            else:
                attribute(model, tokens, target, "attention_gradient")

    return work


def masked(baseline: str, seed: int, who: str) -> Work:
    """Every head's score under COALITIONS coalitions, half of the players hidden in each."""
    model, tokens = make(MASKED, 0.5, seed)
    players = [Player(m, (t,)) for m, length in MASKED.tokens.items() for t in range(length)]
    means = {m: torch.randn(MASKED.width) for m in MASKED.tokens}
    model.eval()
    oracle = OracleModel.of(model)

    def hide(present: Tensor) -> TokenBatch:
        """Coalitions (N, P) as a batch of N samples."""
        parts = present.split(list(MASKED.tokens.values()), dim=1)
        changed = {}
        for (m, t), kept in zip(tokens.items(), parts, strict=True):
            spans = t.spans.expand(len(kept), -1, -1)
            if baseline == "drop":
                changed[m] = Tokens(t.features.expand(len(kept), -1, -1), kept, spans)
            else:
                features = torch.where(kept[..., None], t.features, means[m])
                changed[m] = Tokens(features, t.mask.expand(len(kept), -1), spans)
        return TokenBatch(changed)

    def work(number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        ranks = torch.rand(COALITIONS, len(players), generator=generator).argsort(1)
        present = ranks < len(players) // 2
        if who == "oracle":
            with torch.no_grad():
                for rows in present.split(CHUNK):
                    torch.stack([x[:, 0] for x in oracle(hide(rows)).head_logits], dim=1)
            return
        with autocast(who):
            hidden = None if baseline == "drop" else means
            game = model_game(model, tokens, players, lambda x: x[..., 0], hidden, batch_size=CHUNK)
            game.heads(present)

    return work


def works(setting: Setting) -> dict[str, Callable[[int, str], Work]]:
    """{row: what makes its work from a seed and who does it}."""
    return {
        "step, dropout .5": lambda seed, who: step(setting, 0.5, seed, who),
        "step, dropout 0": lambda seed, who: step(setting, 0.0, seed, who),
        "forward": lambda seed, who: forward(setting, seed, who),
        "attribution": lambda seed, who: attribution(setting, seed, who),
    }


def masked_works() -> dict[str, Callable[[int, str], Work]]:
    """{row: what makes its work}: COALITIONS masked evaluations of one sample."""
    return {
        f"masked, {baseline}": lambda seed, who, b=baseline: masked(b, seed, who)
        for baseline in ("drop", "mean")
    }
