"""The contract with Ray's undocumented names: a version of Ray that lacks one fails here, by its name."""

import subprocess
import sys

import pytest
from ray._raylet import JobID, PlacementGroupID
from ray.train.torch import TorchTrainer

from pipelines.compute import ray_internals
from pipelines.compute.ray_internals import MISSING, without_idle_callbacks

WITHOUT_NAMES = """
import importlib, ray, ray.util.placement_group
def find(module):
    raise ImportError(module)
importlib.import_module = find
from pipelines.compute import ray_internals as internals
assert len(internals.MISSING) == 8, internals.MISSING
assert internals.has_dashboard()
assert internals.without_idle_callbacks([1, "a"]) == [1, "a"]
internals.remove_reservations({"00"})
with internals.isolated_from_signals():
    pass
"""


def test_ray_has_every_name_that_is_used() -> None:
    assert MISSING == []


def test_the_trainer_has_the_methods_that_are_overridden() -> None:
    assert [
        name for name in ("_create_default_callbacks", "_register_sigint_handler") if not hasattr(TorchTrainer, name)
    ] == []


def test_the_id_of_a_job_ends_those_of_its_placement_groups() -> None:
    job = JobID.from_int(7)
    assert PlacementGroupID.of(job).hex().endswith(job.hex())


def test_without_the_names_ray_behaves_as_documented() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_NAMES], check=True, timeout=120)


def test_only_callbacks_with_nothing_to_do_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = [object.__new__(kind) for kind in (ray_internals._datasets, ray_internals._cleaner)]
    monkeypatch.setattr(ray_internals, "has_dashboard", lambda: True)
    assert without_idle_callbacks([1, *idle, 2]) == [1, idle[1], 2]
    monkeypatch.setattr(ray_internals, "has_dashboard", lambda: False)
    assert without_idle_callbacks([1, *idle, 2]) == [1, 2]
