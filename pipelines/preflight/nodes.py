"""What every node of a cluster has and sees, asked by a small task on each: versions, data, storage, GPUs.

Workers read the data and write checkpoints wherever Ray puts them. That one node has an older package, another disk
under the same path or no credentials is found here, and not after an hour of training.
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
"""Seconds in which all nodes together have to answer."""
ROOT = Path(mrqm.__file__).parents[1]


@dataclass(frozen=True)
class NodeReport:
    """What a node says of itself, or, if only `fault` is set, why it says nothing.

    Attributes:
        name: host and address.
        node: its id.
        fault: why there is no report.
        versions: of Python and `PACKAGES`; `code` is a digest of this project's own files.
        data: files and bytes of the data that it sees.
        data_fault: why it cannot read the data.
        output_fault: why `output` is not the same place for it as for this process.
        gpu_bytes: memory of each GPU.
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
    """Ask every living node of the cluster that this process has joined.

    Args:
        config: of the training, with absolute paths.

    Returns:
        Reports, and why not even this process can write to `output`; then nodes are asked for all else.
    """
    try:
        with probe_folder(config) as storage:
            reports = _ask(config, storage.path.rpartition("/")[2])
            return [_confirm(report, storage) for report in reports], None
    except StorageError as error:
        return _ask(config, ""), error


def try_output(config: Config) -> str:
    """Write to `output` and remove that; `StorageError` if it is impossible."""
    with probe_folder(config):
        return f"{config.output_dir}: written by this machine; no other was asked"


def _ask(config: Config, folder: str) -> list[NodeReport]:
    """Reports of all nodes; without a folder of a probe they look for none."""
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
    """Versions of this process."""
    digest = hashlib.sha256()
    for path in sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "code": digest.hexdigest()[:8],
    }


def inspect_node(config: Config, folder: str, node: str, name: str) -> NodeReport:
    """What the node sees that this runs on.

    Args:
        config: of the training.
        folder: of the probe, under `output`; empty if there is none.
        node: its id.
        name: of the node, for people.
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
    """A new folder under `output` with a file in it; it goes when the context ends, and so do folders made for it."""
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
    """Why a node's `output` is not what the driver's is; empty if it is, and the node's own file is there now."""
    try:
        storage = open_storage(config.output_dir, folder)
        if storage.read("probe") is None:
            return "it is another place there"
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
    """A report as it stands if this process sees the file that its node wrote."""
    if report.fault or report.output_fault or storage.read(report.node) is not None:
        return report
    return replace(report, output_fault="what it wrote there is not seen here")


def _gpu_bytes() -> tuple[int, ...]:
    """Memory of each GPU of this machine; nothing where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return tuple(int(pynvml.nvmlDeviceGetMemoryInfo(device).total) for device in devices)
