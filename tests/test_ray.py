"""Ray on two simulated nodes: the same files, lost workers and nodes survived."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_parallel import EXPLAINED, Touch, files

from fli2moe.errors import InputError, MachineError
from fli2moe.parallel import run_parts
from fli2moe.runs import explain_run

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="needs pip install 'fli2moe[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, on this machine; workers find the tests' modules."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address=made.address,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    yield made
    ray.shutdown()
    made.shutdown()


def test_every_part_is_done_once(cluster: Any, tmp_path: Path):
    seen: list[int] = []
    run_parts(Touch(tmp_path), range(8), "ray", seen.append)
    assert sorted(seen) == list(range(8))
    assert all((tmp_path / f"{k}.done").read_text().count("\n") == 1 for k in range(8))


def test_a_killed_actor_is_survived(cluster: Any, tmp_path: Path):
    seen: list[int] = []
    run_parts(Touch(tmp_path, dies_at=3), range(6), "ray", seen.append)
    assert sorted(seen) == list(range(6))
    assert (tmp_path / "died").exists()


def test_an_error_of_a_part_comes_back_as_it_was(cluster: Any, tmp_path: Path):
    with pytest.raises(InputError, match="part: 1 is bad"):
        run_parts(Touch(tmp_path, fails_at=1), range(4), "ray", lambda part: None)


def test_explanations_are_those_of_one_process(cluster: Any, tiny_run: Path, tmp_path: Path):
    for name in ("one", "ray"):
        shutil.copytree(tiny_run, tmp_path / name)
    explain_run(tmp_path / "one", **EXPLAINED)
    explain_run(tmp_path / "ray", workers="ray", **EXPLAINED)
    assert files(tmp_path / "one" / "explanations") == files(tmp_path / "ray" / "explanations")


def test_a_lost_node_is_survived(cluster: Any, tmp_path: Path):
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    seen: list[int] = []

    def lose(part: int) -> None:
        seen.append(part)
        if len(seen) == 2:
            cluster.remove_node(node, allow_graceful=False)

    run_parts(Touch(tmp_path), range(10), "ray", lose)
    assert sorted(set(seen)) == list(range(10))


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path):
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(MachineError, match="cannot be reached"):
        run_parts(Touch(tmp_path), range(2), "ray", lambda part: None, address="127.0.0.1:1")
