"""Reports of all nodes of a cluster, from a small task on each: versions, data, storage, GPUs.

Workers read the data and write checkpoints on any node. An older package, another disk under the same path or missing
credentials on one node are detected here, and not after an hour of training.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import pynvml
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import mrqm
from mrqm.config import Config
from mrqm.structures.annotations import DataError
from pipelines.storage.data_cache import measure_data
from pipelines.storage.filesystem import Storage, StorageError, is_uri, open_storage

PACKAGES = ("ray", "torch", "mrqm")
LAYERS = ("mrqm", "pipelines", "tune")
PATIENCE = 40.0
"""Seconds to wait for the answers of all nodes."""
ROOT = Path(mrqm.__file__).parents[1]


@dataclass(frozen=True)
class NodeReport:
    """Report of a node; only `name` and `fault` are set if it did not answer.

    Attributes:
        name: host name and address.
        node: id of the node in Ray.
        fault: reason why there is no report; empty if there is one.
        versions: versions of Python and `PACKAGES`; `code` is a digest of this project's own files.
        data: number of files and bytes of the data that the node sees.
        data_fault: reason why the node cannot read the data; empty if it can.
        output_fault: reason why `output_dir` is not the same folder as for this process; empty if it is.
        gpu_bytes: memory of each GPU in bytes.
    """

    name: str
    node: str = ""
    fault: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data: tuple[int, int] | None = None
    data_fault: str = ""
    output_fault: str = ""
    gpu_bytes: tuple[int, ...] = ()


def probe_nodes(config: Config) -> tuple[list[NodeReport], StorageError | None]:
    """Collect the reports of all living nodes of the cluster.

    Args:
        config: training configuration with absolute paths.

    Returns:
        Reports, and the error if this process cannot write to `output_dir`, which the nodes then do not test.
    """
    try:
        with probe_folder(config) as storage:
            reports = _ask(config, storage.path.rpartition("/")[2])
            return [_confirm(report, storage) for report in reports], None
    except StorageError as error:
        return _ask(config, ""), error


def try_output(config: Config) -> str:
    """Check that this process can write to `output_dir`.

    Raises:
        StorageError: it cannot be written.
    """
    with probe_folder(config):
        return f"{config.output_dir}: written by this machine; no other was tested"


def _ask(config: Config, folder: str) -> list[NodeReport]:
    """Collect the reports of all nodes; with an empty `folder` they do not test `output_dir`."""
    task = ray.remote(num_cpus=0, max_retries=0)(inspect_node)
    asked = {}
    for node in (node for node in ray.nodes() if node["Alive"]):
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        asked[task.options(scheduling_strategy=here).remote(config, folder, node["NodeID"], name)] = name
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
    reports = [_collect(answer, asked[answer]) for answer in answered]
    for answer in silent:
        ray.cancel(answer, force=True)
        reports.append(NodeReport(asked[answer], fault=f"does not answer within {PATIENCE:g} s"))
    return sorted(reports, key=lambda report: report.name)


def own_versions() -> dict[str, str]:
    """Return the versions of this process."""
    digest = hashlib.sha256()
    for path in sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "code": digest.hexdigest()[:8],
    }


def inspect_node(config: Config, folder: str, node: str, name: str) -> NodeReport:
    """Make the report of the node on which this runs.

    Args:
        config: training configuration.
        folder: name of the probe's folder in `output_dir`; empty to skip the test of `output_dir`.
        node: id of the node in Ray.
        name: name of the node, for display.

    Returns:
        Report of the node.
    """
    data, data_fault = None, ""
    try:
        data = measure_data(config.data)
    except DataError as error:
        data_fault = str(error)
    return NodeReport(
        name=name,
        node=node,
        versions=own_versions(),
        data=data,
        data_fault=data_fault,
        output_fault=_answer_probe(config, folder, node) if folder else "",
        gpu_bytes=_gpu_bytes(),
    )


@contextmanager
def probe_folder(config: Config) -> Iterator[Storage]:
    """Provide a new folder in `output_dir` with a file in it; remove it, and its new parents, when the context ends."""
    storage = open_storage(config.output_dir, f".mrqm-plan-{uuid4().hex[:12]}")
    places = [] if is_uri(config.output_dir) else [Path(config.output_dir), *Path(config.output_dir).parents]
    made = [place for place in places if not place.exists()]
    try:
        storage.require_writable()
        storage.write("probe", storage.url)
        yield storage
    finally:
        storage.delete()
        for place in made:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def _answer_probe(config: Config, folder: str, node: str) -> str:
    """Write a node's file into the driver's probe folder; return the reason if it cannot, else an empty text."""
    try:
        storage = open_storage(config.output_dir, folder)
        if storage.read("probe") is None:
            return "it is another folder there"
        storage.write(node, "1")
    except (StorageError, OSError) as error:
        return str(error)
    return ""


def _collect(answer: ray.ObjectRef, name: str) -> NodeReport:
    try:
        return ray.get(answer)
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return NodeReport(name, fault=lines[-1])


def _confirm(report: NodeReport, storage: Storage) -> NodeReport:
    """Add a fault to a report if this process does not see the file that its node wrote."""
    if report.fault or report.output_fault or storage.read(report.node) is not None:
        return report
    return replace(report, output_fault="its file there is not visible to this machine")


def _gpu_bytes() -> tuple[int, ...]:
    """Return the memory of each GPU of this machine in bytes; empty without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return tuple(int(pynvml.nvmlDeviceGetMemoryInfo(device).total) for device in devices)
