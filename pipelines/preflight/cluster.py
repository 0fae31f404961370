"""Checks of a cluster and its nodes for a training: rows of `mrqm plan`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from humanize import naturalsize

from mrqm.check import Check, check
from mrqm.config import Config
from mrqm.engine.cost import ModelCost
from mrqm.engine.memory import HeaviestBatch, StepMemory
from pipelines.compute.resources import (
    cluster_nodes,
    describe_resources,
    describe_shortage,
    require_room,
    room_of,
    room_on,
)
from pipelines.preflight.nodes import ROOT, NodeReport, own_versions
from pipelines.storage.filesystem import StorageError

GPU_OVERHEAD = 1.0e9
"""Bytes of a GPU's driver, libraries and fragmented free memory, in addition to PyTorch's allocations."""
CPU_OVERHEAD = 0.6e9
"""Bytes of an idle worker on the CPU, after its imports."""
WARNING_SHARE = 0.85
"""Used share of the memory above which a warning is given."""
NAMED = 3


def check_room(config: Config) -> Check:
    """Check that the workers fit into the cluster, with a warning if they would have to wait."""
    extra_workers = int(config.evaluation.asynchronous)
    nodes = cluster_nodes()
    address = os.environ.get("RAY_ADDRESS")
    where = f"cluster at {address}, {len(nodes)} nodes" if address else "no RAY_ADDRESS: this machine alone"

    def measure() -> str:
        require_room(config.scaling, extra_workers=extra_workers)
        room = room_on(nodes, config.scaling)
        return f"{where}: room for {room} such workers, requested {describe_resources(config.scaling)}"

    found = check("cluster", measure)
    if found.status == "ok" and (shortage := describe_shortage(config.scaling, extra_workers)):
        return Check("cluster", "warning", f"{found.finding}; {shortage}", "a training would wait until they are free")
    return found


def check_nodes(reports: Sequence[NodeReport], ask: str = "check its Ray logs, or remove it") -> Check:
    """Check that all nodes answered.

    Args:
        reports: reports of the nodes.
        ask: remedy for a node that did not answer.

    Returns:
        Row of the plan.
    """
    faults = [f"{report.name}: {report.fault}" for report in reports if report.fault]
    if not faults:
        return Check("nodes", "ok", f"{_count(len(reports))} answered")
    without = any("No module named" in fault for fault in faults)
    remedy = "install this project on all nodes, in the versions of constraints.txt" if without else ask
    return Check("nodes", "error", _some(faults), remedy)


def check_versions(reports: Sequence[NodeReport]) -> Check:
    """Check that all nodes have this process's versions, and this process those of constraints.txt."""
    own = own_versions()
    others = [
        f"{report.name}: {name} {found}, here {own[name]}"
        for report in reports
        for name, found in report.versions.items()
        if found != own[name]
    ]
    shown = ", ".join(f"{name} {value}" for name, value in own.items())
    if others:
        remedy = "install the versions of constraints.txt and the same code on all nodes and on the submitting machine"
        return Check("versions", "error", _some(others), remedy)
    strange = [f"{name} {own[name]} (constraints.txt: {value})" for name, value in _constraints().items()
               if name in own and own[name].partition("+")[0] != value]  # fmt: skip
    if strange:
        remedy = "install the tested versions: `pip install -c constraints.txt`"
        return Check("versions", "warning", _some(strange), remedy)
    return Check("versions", "ok", shown)


def check_output(config: Config, reports: Sequence[NodeReport], fault: StorageError | None = None) -> Check:
    """Check that `output_dir` is the same writable folder for all nodes.

    Args:
        config: training configuration.
        reports: reports of the nodes.
        fault: error of this process when it wrote to `output_dir`, if it failed.

    Returns:
        Row of the plan.
    """
    if fault is not None:
        return Check.refused("output", fault)
    faults = [f"{report.name}: {report.output_fault}" for report in reports if report.output_fault]
    if faults:
        remedy = "set output_dir to a folder that all nodes share, or to a URI such as s3://bucket/runs"
        return Check("output", "error", f"output_dir={config.output_dir} on {_some(faults)}", remedy)
    return Check("output", "ok", f"{config.output_dir}: written and read back by {_count(len(reports))}")


def check_data_everywhere(config: Config, reports: Sequence[NodeReport]) -> Check:
    """Check that all nodes see the same data.

    Args:
        config: training configuration.
        reports: reports of the nodes.

    Returns:
        Row of the plan.
    """
    faults = [f"{report.name}: {report.data_fault}" for report in reports if report.data_fault]
    remedy = "set data.root to a folder that all nodes share, or to a URI"
    if faults:
        return Check("data on nodes", "error", _some(faults), remedy)
    seen = {report.data: report.name for report in reports if report.data}
    if len(seen) > 1:
        differing = [f"{name}: {files:,} files, {size:,} bytes" for (files, size), name in seen.items()]
        return Check("data on nodes", "error", f"different on some nodes: {_some(differing)}", remedy)
    for files, size in seen:
        return Check("data on nodes", "ok", f"{config.data.root}: {files:,} files, {naturalsize(size)} on every node")
    return Check("data on nodes", "warning", "no node answered", "see the row `nodes`")


def check_cost(cost: ModelCost, batch: HeaviestBatch) -> Check:
    """Describe the size of the detector.

    Args:
        cost: parameters, and FLOPs of one image of the batch.
        batch: heaviest batch of a worker.

    Returns:
        Row of the plan, which never fails.
    """
    height, width = batch.size
    size = f"{cost.parameters / 1e6:.1f} million parameters"
    return Check("model", "ok", f"{size}, {cost.flops / 1e9:,.1f} GFLOP for an image of {width}×{height} px")


def check_memory(
    config: Config,
    need: StepMemory,
    batch: HeaviestBatch,
    nodes: Sequence[Mapping[str, float]],
    reports: Sequence[NodeReport],
    gpu_bytes: int | None,
) -> Check:
    """Check that a worker's training step fits into its GPU or, on the CPU, the node's memory.

    Args:
        config: training configuration.
        need: predicted memory of a training step.
        batch: batch of that prediction.
        nodes: resources of each node, by Ray's names.
        reports: reports of the nodes, with the memory of their GPUs.
        gpu_bytes: memory of a GPU in bytes; None for that of the reports.

    Returns:
        Row of the plan.
    """
    overhead = GPU_OVERHEAD if config.scaling.use_gpu or gpu_bytes else CPU_OVERHEAD
    total = need.total + overhead
    images = "1 image" if batch.images == 1 else f"{batch.images} images"
    what = f"{images} of {batch.size[1]}×{batch.size[0]} px with up to {batch.objects:,} objects"
    finding = (
        f"a worker's step takes {naturalsize(total)}: {naturalsize(need.activations)} for {what}, "
        f"{naturalsize(need.model)} model and optimizer, {naturalsize(need.matching)} matching, "
        f"{naturalsize(overhead)} overhead"
    )
    place, limit = _memory_limit(config, nodes, reports, gpu_bytes)
    if limit is None:
        remedy = "give --gpu-memory 24GB" if config.scaling.use_gpu else "see the row `cluster`"
        return Check("memory", "warning", f"{finding}; {place}", remedy)
    finding = f"{finding}; {place} has {naturalsize(limit)}"
    if total <= WARNING_SHARE * limit:
        return Check("memory", "ok", finding)
    return Check("memory", "error" if total > limit else "warning", finding, _memory_remedy(config))


def _memory_limit(
    config: Config, nodes: Sequence[Mapping[str, float]], reports: Sequence[NodeReport], gpu_bytes: int | None
) -> tuple[str, float | None]:
    """Find the memory of a worker: its name and its bytes, None if unknown."""
    if gpu_bytes is not None:
        return "the GPU", gpu_bytes
    if config.scaling.use_gpu:
        known = [size for report in reports for size in report.gpu_bytes]
        return ("the smallest GPU", min(known)) if known else ("no node reports the memory of its GPUs", None)
    shares = [
        node["memory"] / min(room, config.scaling.max_workers)
        for node in nodes
        if "memory" in node and (room := room_of(node, config.scaling))
    ]
    return ("its share of the node", min(shares)) if shares else ("no node reports its memory", None)


def _memory_remedy(config: Config) -> str:
    """List the settings that reduce the memory of a step."""
    ways = []
    if config.micro_batch_size > 1:
        steps = config.train.gradient_accumulation_steps
        ways.append(f"raise train.gradient_accumulation_steps={steps} or scaling.num_workers")
    if config.train.precision == "float32":
        ways.append("train.precision=bfloat16")
    sides = "data.max_side" if config.data.resize is None else "data.resize.short_side and max_side"
    size = "data.tile.size" if config.data.tile else f"{sides}, or cut the images with data.tile"
    return "; ".join([*ways, f"lower {size}"])


def _constraints() -> Mapping[str, str]:
    """Read the tested versions from constraints.txt, if the project's folder has it."""
    path = ROOT / "constraints.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name: value for name, found, value in (line.partition("==") for line in lines) if found}


def _some(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return "; ".join(faults[:NAMED]) + more


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"all {nodes} nodes"
