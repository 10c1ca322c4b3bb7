"""What a full-size probe costs beside the model."""

import time

import numpy as np
import pytest
import torch

from fli2moe.explain import TokenGame, redundancy_gaps, shapley_interactions


@pytest.mark.slow
def test_all_pairs_of_a_full_size_sample_take_seconds_of_their_own():
    values = torch.zeros(4096, 5)  # a model that costs nothing
    game = TokenGame.from_callable(
        lambda z: values[: len(z)] + z[:, :1] * z[:, 64:65], {"text": 64, "image": 196}
    )
    budget = 16 * (1 + 260 + 64 * 196) + 4
    start = time.process_time()
    interactions = shapley_interactions(game, budget)
    gaps = redundancy_gaps(game, budget)
    spent = time.process_time() - start
    assert len(interactions) == len(gaps) == 5 * 64 * 196
    assert interactions.n_contexts[0] == 16
    assert np.argmax(interactions.value) == 0
    assert spent < 8.0  # 1.5 s on an idle core; machines are shared
