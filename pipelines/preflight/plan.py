"""Preflight checks of a training or a sweep: `mrqm plan -c configs/demo.yaml`.

The checks of all layers run independently of each other's results. Trainings use the same functions to refuse to start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from typing import Protocol, TypeAlias

from humanize import naturalsize
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrqm.check import Check, Status, check
from mrqm.checkpoint.folder import adopt_class_order, build_unloaded
from mrqm.config import Config
from mrqm.config.batch_scaling import resolve_batch
from mrqm.data import DetectionDataset, build_dataset
from mrqm.data.analysis.checks import check_split
from mrqm.data.formats.splits import SPLITS
from mrqm.engine.cost import ModelCost, model_cost
from mrqm.engine.memory import HeaviestBatch, StepMemory, heaviest_batch, predict_step_memory
from mrqm.errors import UserError
from mrqm.redaction import redact
from mrqm.structures.annotations import DataError
from pipelines.compute.resources import cluster_nodes
from pipelines.compute.session import ResourceError, ray_session
from pipelines.preflight.cluster import (
    check_cost,
    check_data_everywhere,
    check_memory,
    check_nodes,
    check_output,
    check_room,
    check_versions,
)
from pipelines.preflight.inputs import check_backbone, check_init, check_resume, check_space
from pipelines.preflight.mlflow import check_mlflow
from pipelines.preflight.nodes import NodeReport, probe_nodes, try_output
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.ancestors import AncestorRecord
from pipelines.storage.data_cache import data_cache
from pipelines.storage.fingerprint import Fingerprint, fingerprint_of, require_same
from pipelines.storage.run_dir import RunFolder

MARKS: Mapping[Status, str] = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "error": "[bold red]error[/]"}


Prediction: TypeAlias = tuple[ModelCost, StepMemory, HeaviestBatch]
"""Cost of the detector and memory of a step, with the batch that both are predicted for."""


class PlanError(UserError):
    """Invalid options of a plan."""


class Sweep(Protocol):
    """A planned sweep, implemented in `tune`.

    Attributes:
        largest: configuration of its largest trial.
        fingerprint: identity of the sweep, without the digests of its data.
        ancestors: values of `model.init` that its trials may have.
    """

    largest: Config
    fingerprint: Fingerprint
    ancestors: Sequence[str]

    def checks(self, nodes: Sequence[Mapping[str, float]]) -> list[Check]:
        """Check its trials on nodes with these resources."""


def plan(
    read: Callable[[], tuple[Config, Sweep | None]], gpu_bytes: int | None, say: Callable[[str], None]
) -> list[Check]:
    """Check everything that a training needs.

    Args:
        read: function that reads the configuration and, if one is planned, the sweep.
        gpu_bytes: memory of a GPU in bytes; None for that of the nodes.
        say: callback for the name of the current check.

    Returns:
        Rows of the plan.
    """
    checks: list[Check] = []
    try:
        config, sweep = read()
    except UserError as error:
        return [Check.refused("configuration", error)]
    config = resolve_batch(with_absolute_paths(config))
    fingerprint = sweep.fingerprint if sweep else fingerprint_of(config)
    checks.append(Check("configuration", "ok", f"run {config.name}"))
    with ThreadPoolExecutor(1) as aside, ExitStack() as data:
        say("reading annotations")
        rows, datasets = _check_inputs(config, data)
        checks += rows
        rows, ancestor = _check_ancestors(config, sweep, datasets)
        checks += rows
        fingerprint = fingerprint.with_init(ancestor)
        prediction = aside.submit(_predict, sweep.largest if sweep else config, datasets.get("train"))
        say("asking MLflow")
        checks += [*_check_run(config, fingerprint, with_disk=sweep is None), *check_mlflow(config)]
        say("asking the cluster")
        checks += _check_cluster(config, sweep, prediction, gpu_bytes)
    return checks


def _check_inputs(config: Config, data: ExitStack) -> tuple[list[Check], dict[str, DetectionDataset]]:
    """Check the training's inputs; return the rows, and the data of every readable split."""
    checks = [check("backbone", lambda: f"{config.model.backbone.name}: {check_backbone(config)}")]
    datasets: dict[str, DetectionDataset] = {}
    try:
        data.enter_context(data_cache(config.data))
    except DataError as error:
        return [*checks, Check.refused("data", error)], datasets
    for split in SPLITS:
        try:
            datasets[split] = build_dataset(adopt_class_order(config), split)
            checks += check_split(config, split, datasets[split])
        except DataError as error:
            checks.append(Check.refused(f"data {split}", error))
    if "train" in datasets:
        classes = datasets["train"].classes
        checks.append(_confirm("resume", lambda: check_resume(config, classes), f"train.resume={config.train.resume}"))
    else:
        checks.append(Check("resume", "warning", "unknown without the data", "see the row `data train`"))
    return checks, datasets


def _check_ancestors(
    config: Config, sweep: Sweep | None, datasets: Mapping[str, DetectionDataset]
) -> tuple[list[Check], AncestorRecord | None]:
    """Check all values of `model.init`; return the rows, and the origin of the one in the configuration."""
    own = config.model.init
    classes = datasets["train"].classes if "train" in datasets else None
    sources = sweep.ancestors if sweep else [own] if own else []
    found = {source: check_init(config, source, classes) for source in sources}
    return [row for row, _ in found.values()], found[own][1] if own in found else None


def _confirm(name: str, function: Callable[[], None], finding: str) -> Check:
    def confirm() -> str:
        function()
        return finding

    return check(name, confirm)


def _check_run(config: Config, fingerprint: Fingerprint, with_disk: bool) -> list[Check]:
    """Check the state of the run, and that its checkpoints have room."""

    def find_run() -> str:
        folder = RunFolder(config)
        former = require_same(config, folder, fingerprint)
        if folder.read_summary():
            return f"{folder.storage.url} is finished: training would only print its summary"
        return f"{folder.storage.url} {'will be resumed' if former else 'is new'}"

    def measure_space() -> str:
        folder = RunFolder(config)
        missing, size = check_space(config, folder)
        free = folder.storage.free_bytes()
        room = "a store without a limit" if free is None else f"{naturalsize(free)} are free"
        return f"{missing} checkpoints of {naturalsize(size)}; {room}"

    return [check("run", find_run), *([check("disk", measure_space)] if with_disk else [])]


def _predict(config: Config, data: DetectionDataset | None) -> Prediction | None:
    if data is None:
        return None
    batch, classes = heaviest_batch(config, data), len(data.classes)
    return model_cost(build_unloaded(config, classes), batch.size), predict_step_memory(config, classes, batch), batch


def _check_cluster(
    config: Config,
    sweep: Sweep | None,
    prediction: Future[Prediction | None],
    gpu_bytes: int | None,
) -> list[Check]:
    nodes: Sequence[Mapping[str, float]] = ()
    reports: list[NodeReport] = []
    try:
        with ray_session():
            nodes = cluster_nodes()
            reports, fault = probe_nodes(config)
            checks = [check_room(config), check_output(config, reports, fault)]
            checks += [check_nodes(reports), check_versions(reports), check_data_everywhere(config, reports)]
    except ResourceError as error:
        checks = [Check.refused("cluster", error), check("output", lambda: try_output(config))]
    checks += sweep.checks(nodes) if sweep else []
    if predicted := prediction.result():
        cost, memory, batch = predicted
        return [*checks, check_cost(cost, batch), check_memory(config, memory, batch, nodes, reports, gpu_bytes)]
    return [*checks, Check("memory", "warning", "unknown without the data", "see the row `data train`")]


def parse_bytes(text: str) -> int:
    """Parse an amount of memory to bytes: `24GB`, `80GiB`, or `24` for GB.

    Raises:
        PlanError: the text is not an amount of memory.
    """
    try:
        return int(TypeAdapter(ByteSize).validate_python(f"{text}GB" if text.strip().isdigit() else text))
    except ValidationError as error:
        raise PlanError(f"--gpu-memory {text}: not an amount of memory; write it like 24GB or 80GiB") from error


def failed(checks: Sequence[Check]) -> bool:
    """Return true if a training would be refused or fail."""
    return any(found.status == "error" for found in checks)


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print the checks as a table, and the verdict.

    Args:
        checks: rows of the plan.
        console: terminal or log.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "check"):
        table.add_column(column, no_wrap=True)
    table.add_column("finding, and → remedy", overflow="fold")
    for found in checks:
        words = redact(f"{found.finding}\n→ {found.remedy}" if found.remedy else found.finding)
        table.add_row(MARKS[found.status], escape(found.name), escape(words))
    console.print(table)
    counts = {status: sum(found.status == status for found in checks) for status in ("error", "warning")}
    verdict = "it would fail" if counts["error"] else "ready"
    said = ", ".join(f"{count} {status}{'' if count == 1 else 's'}" for status, count in counts.items())
    console.print(f"\n{verdict}: {said} in {len(checks)} checks")


def to_json(checks: Sequence[Check]) -> str:
    """Format the checks as JSON: `status`, the worst of all, and `checks`."""
    worst = max((found.status for found in checks), key=("ok", "warning", "error").index)
    return redact(json.dumps({"status": worst, "checks": [asdict(found) for found in checks]}, indent=2))
