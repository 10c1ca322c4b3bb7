"""What a full-size probe costs beside the model."""

import time

import numpy as np
import pytest
import torch

from fli2moe.explain import TokenGame, pair_interactions, shapley_interactions


def _free_game() -> TokenGame:
    """64 x 196 players and five heads of a model that costs nothing; players 0 and 64 interact."""
    values = torch.zeros(16_384, 5)
    return TokenGame.from_callable(
        lambda z: values[: len(z)] + z[:, :1] * z[:, 64:65],
        {"text": 64, "image": 196},
        batch_size=16_384,
    )


@pytest.mark.slow
def test_a_screened_sample_takes_seconds_of_its_own():
    start = time.process_time()
    found = pair_interactions(_free_game(), 4000, "sparse")
    spent = time.process_time() - start
    assert len(found.sii) == 5 * 64 * 196
    assert np.argmax(found.sii.value[: 64 * 196]) == 0
    assert found.sii.value[0] == pytest.approx(1.0, abs=0.01)
    assert found.sii.columns["audited"][0] == 1
    assert spent < 8.0  # 1 s on an idle core; machines are shared


@pytest.mark.slow
def test_a_huge_budget_is_not_all_screened():
    """Fitting costs more than evaluations do: the masks are capped, and the rest audits."""
    start = time.process_time()
    table = shapley_interactions(_free_game(), 60_000, "sparse", heads=["head 0"])
    spent = time.process_time() - start
    assert table.settings["screening_evaluations"] <= 24_000
    assert table.settings["evaluations"] <= 60_000
    assert table.settings["audited_pairs"] > 32
    assert np.argmax(table.value) == 0
    assert spent < 10.0


@pytest.mark.slow
def test_contexts_shared_by_all_pairs_take_seconds_of_their_own():
    start = time.process_time()
    found = pair_interactions(_free_game(), 4 * (1 + 260 + 64 * 196) + 4, "monte_carlo")
    spent = time.process_time() - start
    assert len(found.sii) == len(found.redundancy) == 5 * 64 * 196
    assert found.sii.n_contexts[0] == 4
    assert np.argmax(found.sii.value) == 0
    assert spent < 8.0
