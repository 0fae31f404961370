"""What would become of a training or a sweep, before anything of it starts: `mrqm plan -c configs/demo.yaml`.

Here the checks of all layers are run, each whatever the others found. Trainings refuse by the same functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from typing import Protocol

from humanize import naturalsize
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrqm.check import Check, Status, check
from mrqm.checkpoint.folder import adopt_class_order
from mrqm.config import Config
from mrqm.data import DetectionDataset, build_dataset
from mrqm.data.analysis.checks import check_split
from mrqm.data.formats.splits import SPLITS
from mrqm.engine.memory import HeaviestBatch, StepMemory, heaviest_batch, predict_step_memory
from mrqm.errors import UserError
from mrqm.redaction import redact
from mrqm.structures.annotations import DataError
from pipelines.compute.resources import cluster_nodes
from pipelines.compute.session import ResourceError, ray_session
from pipelines.preflight.cluster import (
    check_data_everywhere,
    check_memory,
    check_nodes,
    check_output,
    check_room,
    check_versions,
)
from pipelines.preflight.inputs import check_backbone, check_resume, check_space
from pipelines.preflight.mlflow import check_mlflow
from pipelines.preflight.nodes import NodeReport, probe_nodes, try_output
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.data_cache import data_cache
from pipelines.storage.fingerprint import Fingerprint, fingerprint_of, require_same
from pipelines.storage.run_dir import RunFolder

MARKS: Mapping[Status, str] = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "error": "[bold red]error[/]"}


class PlanError(UserError):
    """A plan that cannot be made of what was said."""


class Sweep(Protocol):
    """A sweep that is planned; `tune` has it.

    Attributes:
        largest: the configuration of its largest trial.
        fingerprint: what it is, before its data is read.
    """

    largest: Config
    fingerprint: Fingerprint

    def checks(self, nodes: Sequence[Mapping[str, float]]) -> list[Check]:
        """Rows about its trials on nodes with these resources."""


def plan(
    read: Callable[[], tuple[Config, Sweep | None]], gpu_bytes: int | None, say: Callable[[str], None]
) -> list[Check]:
    """Look at everything that a training will need.

    Args:
        read: gives the configuration and, if one is planned, the sweep.
        gpu_bytes: memory of a GPU, if that is not to be asked of the nodes.
        say: is told what is being looked at.
    """
    checks: list[Check] = []
    try:
        config, sweep = read()
    except UserError as error:
        return [Check.refused("configuration", error)]
    config = with_absolute_paths(config)
    fingerprint = sweep.fingerprint if sweep else fingerprint_of(config)
    checks.append(Check("configuration", "ok", f"run {config.name}"))
    with ThreadPoolExecutor(1) as aside, ExitStack() as data:
        say("reading annotations")
        rows, datasets = _check_inputs(config, data)
        checks += rows
        memory = aside.submit(_predict, sweep.largest if sweep else config, datasets.get("train"))
        say("asking MLflow")
        checks += [*_check_run(config, fingerprint, with_disk=sweep is None), *check_mlflow(config)]
        say("asking the cluster")
        checks += _check_cluster(config, sweep, memory, gpu_bytes)
    return checks


def _check_inputs(config: Config, data: ExitStack) -> tuple[list[Check], dict[str, DetectionDataset]]:
    """What the training reads, and the data of every split that can be read."""
    backbone = config.model.backbone
    checks = [_look("backbone", lambda: check_backbone(config), f"{backbone.name}, weights {backbone.weights}")]
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
        checks.append(_look("resume", lambda: check_resume(config, classes), f"train.resume={config.train.resume}"))
    else:
        checks.append(Check("resume", "warning", "not known without the data", "see the row `data train`"))
    return checks, datasets


def _look(name: str, function: Callable[[], None], finding: str) -> Check:
    def look() -> str:
        function()
        return finding

    return check(name, look)


def _check_run(config: Config, fingerprint: Fingerprint, with_disk: bool) -> list[Check]:
    """What is known of the run by that name, and whether its checkpoints have room."""

    def look_for_run() -> str:
        folder = RunFolder(config)
        former = require_same(config, folder, fingerprint)
        if folder.read_summary():
            return f"{folder.storage.url} is finished: training would only look it up"
        return f"{folder.storage.url} {'will be continued' if former else 'is new'}"

    def look_for_space() -> str:
        folder = RunFolder(config)
        missing, size = check_space(config, folder)
        free = folder.storage.free_bytes()
        room = "a store without a bound" if free is None else f"{naturalsize(free)} are free"
        return f"{missing} checkpoints of {naturalsize(size)}; {room}"

    return [check("run", look_for_run), *([check("disk", look_for_space)] if with_disk else [])]


def _predict(config: Config, data: DetectionDataset | None) -> tuple[StepMemory, HeaviestBatch] | None:
    if data is None:
        return None
    batch = heaviest_batch(config, data)
    return predict_step_memory(config, len(data.classes), batch), batch


def _check_cluster(
    config: Config,
    sweep: Sweep | None,
    memory: Future[tuple[StepMemory, HeaviestBatch] | None],
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
    if predicted := memory.result():
        return [*checks, check_memory(config, *predicted, nodes, reports, gpu_bytes)]
    return [*checks, Check("memory", "warning", "not known without the data", "see the row `data train`")]


def parse_bytes(text: str) -> int:
    """Bytes as people say them: `24GB`, `80GiB`, or `24` for GB.

    Raises:
        PlanError: it is none.
    """
    try:
        return int(TypeAdapter(ByteSize).validate_python(f"{text}GB" if text.strip().isdigit() else text))
    except ValidationError as error:
        raise PlanError(f"--gpu-memory {text}: not an amount of memory; say it as 24GB or 80GiB") from error


def failed(checks: Sequence[Check]) -> bool:
    """Whether a training would be refused or fail."""
    return any(found.status == "error" for found in checks)


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """All of it as a table, and what it comes to."""
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
    """All of it for programs: `status`, the worst of all, and `checks`."""
    worst = max((found.status for found in checks), key=("ok", "warning", "error").index)
    return redact(json.dumps({"status": worst, "checks": [asdict(found) for found in checks]}, indent=2))
