"""Rows of a plan about nodes, from reports as nodes give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray

from mrqm.config import Config
from mrqm.engine.memory import HeaviestBatch, StepMemory
from pipelines.preflight import cluster as cluster_checks
from pipelines.preflight.cluster import (
    check_data_everywhere,
    check_memory,
    check_nodes,
    check_output,
    check_room,
    check_versions,
)
from pipelines.preflight.nodes import NodeReport, own_versions
from pipelines.storage.filesystem import StorageError

TinyConfig = Callable[..., Config]
BATCH = HeaviestBatch(images=2, size=(800, 1344), objects=902, padded=True)
NEED = StepMemory(model=1_000_000_000, activations=15_000_000_000, matching=500_000_000)


def report(name: str, **more: Any) -> NodeReport:
    return NodeReport(name, node=name, versions=own_versions(), data=(12, 3_000), **more)


def test_like_nodes_are_fine(tiny_config: TinyConfig) -> None:
    reports, config = [report("a"), report("b")], tiny_config()
    found = [check_nodes(reports), check_versions(reports), check_output(config, reports)]
    assert [row.status for row in (*found, check_data_everywhere(config, reports))] == ["ok"] * 4


def test_another_version_on_a_node_is_named_beside_this_one() -> None:
    odd = NodeReport("b", versions=own_versions() | {"torch": "2.0.0"})
    found = check_versions([report("a"), odd])
    assert found.status == "error"
    assert found.finding == f"b: torch 2.0.0, here {own_versions()['torch']}"


def test_other_code_under_the_same_version_is_found() -> None:
    found = check_versions([NodeReport("b", versions=own_versions() | {"code": "00000000"})])
    assert "b: code 00000000" in found.finding


def test_what_was_not_tested_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_checks, "_constraints", lambda: {"ray": "9.9.9"})
    found = check_versions([report("a")])
    assert found.status == "warning"
    assert "constraints.txt: 9.9.9" in found.finding


def test_a_node_without_the_package_is_told_from_a_silent_one() -> None:
    without = check_nodes([report("a"), NodeReport("b", fault="ModuleNotFoundError: No module named 'pipelines'")])
    silent = check_nodes([report("a"), NodeReport("b", fault="does not answer within 30 s")])
    assert without.status == silent.status == "error"
    assert "install this project" in without.remedy
    assert "Ray logs" in silent.remedy


def test_a_place_that_is_not_shared_is_an_error(tiny_config: TinyConfig) -> None:
    found = check_output(tiny_config("output_dir=/mnt/runs"), [report("a"), report("b", output_fault="another place")])
    assert found.status == "error"
    assert found.finding == "output_dir=/mnt/runs on b: another place"


def test_what_this_process_cannot_write_is_an_error_whatever_nodes_say(tiny_config: TinyConfig) -> None:
    found = check_output(tiny_config(), [report("a")], StorageError("output_dir=x: cannot be written; give another"))
    assert (found.status, found.remedy) == ("error", "give another")


def test_data_that_differs_between_nodes_is_an_error(tiny_config: TinyConfig) -> None:
    other = NodeReport("b", versions=own_versions(), data=(11, 3_000))
    found = check_data_everywhere(tiny_config(), [report("a"), other])
    assert found.status == "error"
    assert "a: 12 files, 3,000 bytes; b: 11 files" in found.finding


def test_data_that_a_node_cannot_read_is_an_error(tiny_config: TinyConfig) -> None:
    found = check_data_everywhere(tiny_config(), [report("a"), report("b", data_fault="/data: no files")])
    assert (found.status, found.finding) == ("error", "b: /data: no files")


@pytest.mark.parametrize(("gigabytes", "status"), [(24, "ok"), (19, "warning"), (16, "error")])
def test_a_step_is_compared_with_the_gpu(tiny_config: TinyConfig, gigabytes: int, status: str) -> None:
    config = tiny_config("scaling.use_gpu=true", "train.batch_size=2")
    found = check_memory(config, NEED, BATCH, [], [], gigabytes * 10**9)
    assert found.status == status
    assert "17.5 GB: 15.0 GB for 2 images of 1344×800 px with up to 902 objects" in found.finding
    assert ("raise train.gradient_accumulation_steps=1" in found.remedy) == (status != "ok")


def test_the_smallest_gpu_of_the_cluster_counts(tiny_config: TinyConfig) -> None:
    reports = [report("a", gpu_bytes=(80 * 10**9,)), report("b", gpu_bytes=(16 * 10**9, 80 * 10**9))]
    found = check_memory(tiny_config("scaling.use_gpu=true"), NEED, BATCH, [], reports, None)
    assert found.status == "error"
    assert "the smallest GPU has 16.0 GB" in found.finding


def test_unknown_gpus_are_asked_for(tiny_config: TinyConfig) -> None:
    found = check_memory(tiny_config("scaling.use_gpu=true"), NEED, BATCH, [], [report("a")], None)
    assert (found.status, found.remedy) == ("warning", "give --gpu-memory 24GB")


def test_workers_of_a_node_share_its_memory(tiny_config: TinyConfig) -> None:
    nodes = [{"CPU": 2.0, "memory": 40e9}]
    alone = check_memory(tiny_config("scaling.num_workers=1"), NEED, BATCH, nodes, [], None)
    both = check_memory(tiny_config("scaling.num_workers=2"), NEED, BATCH, nodes, [], None)
    assert (alone.status, both.status) == ("ok", "warning")
    assert "its share of the node has 20.0 GB" in both.finding


def test_room_that_others_hold_is_a_warning(tiny_config: TinyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(cluster_checks, "describe_shortage", lambda *arguments: "0 of 2 CPUs are free")
    found = check_room(tiny_config("scaling.num_workers=2"))
    assert found.status == "warning"
    assert found.finding.startswith("no RAY_ADDRESS: this machine alone: room for 2 such workers")
    assert check_room(tiny_config("scaling.num_workers=2", "scaling.cpus_per_worker=2")).status == "error"
