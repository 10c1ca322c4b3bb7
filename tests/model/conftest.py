"""A tiny model, saved once; every test gets a copy of the folder that it may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from saved import config_of
from tiny import tiny_model

from fli2moe.model import save_pretrained


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with three labels; not to be changed."""
    folder = tmp_path_factory.mktemp("saved")
    labels = ("dog", "star", "sun")
    return save_pretrained(tiny_model().float(), config_of(), folder, labels=labels)


@pytest.fixture
def folder(saved_model: Path, tmp_path: Path) -> Path:
    """A copy of the saved model."""
    shutil.copytree(saved_model, tmp_path / "model")
    return tmp_path / "model"
