"""Tables in a terminal of 80 columns: no line is longer, and no cell is lost, however long names are."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cluster.jobs.listing import print_jobs
from mrqm.data.analysis.statistics import SplitReport
from mrqm.evaluation.analysis.errors import ERRORS, SIZE_BINS, ErrorAnalysis
from pipelines.console.tables import metrics_tables
from pipelines.evaluation.report import _errors_table
from pipelines.preparation.report import print_report
from pipelines.registry.model_version import Version
from pipelines.registry.report import print_models
from tune.report.live_table import SHOWN, LiveTable
from tune.report.plan import Plan
from tune.space.schema import make_space
from tune.state.history import History
from tune.state.records import Reported, SessionBegan, TrialBegan

CLASSES = ("car", "construction-vehicle-with-trailer-and-crane-attached", "Fahrradständer [überdacht] am Wegesrand")
MANY = 40


def jobs() -> tuple[Callable[[Console], Any], list[str]]:
    each = {
        "status": "FAILED",
        "driver_exit_code": 137,
        "start_time": 1.7e12,
        "end_time": 1.7e12 + 9.9e8,
        "metadata": {"user": "somebody.with.a.long.name@company.example"},
        "entrypoint": "python -m mrqm train -c configs/visdrone_r50.yaml data.root=/mnt/shared/datasets/visdrone/det",
    }
    found = [{**each, "submission_id": f"train-a-long-name-of-a-run-20261201-{i:06}"} for i in range(MANY)]
    words = [each["metadata"]["user"], each["entrypoint"].removeprefix("python -m "), "failed (137)"]  # type: ignore[index,attr-defined]
    return lambda console: print_jobs(found, console), [*words, *(job["submission_id"] for job in found)]


def preparation() -> tuple[Callable[[Console], Any], list[str]]:
    split = SplitReport(
        images=1_234_567,
        objects=dict.fromkeys(CLASSES, 87654321),
        ignored={"ignored region": 7, "others": 0},
        sides={0: 11, 12: 22},
        share_under={16: 0.5},
        objects_per_image={"median": 1, "99th percentile": 2, "most": 3},
        repairs=[],
        unreadable=[],
        digest="0123456789abcdef",
    )
    splits = dict.fromkeys(("train", "val", "test-challenge"), split)
    return lambda console: print_report(splits, console), [*CLASSES, *splits, "1,234,567", "87,654,321", "0123456789ab"]


def metrics() -> tuple[Callable[[Console], Any], list[str]]:
    values = {"coco/AP": 0.501, "coco/AP_small_objects_of_a_bin_with_a_long_name": 0.502}
    values |= {f"coco/AP/{name} {number}": 0.503 for name in CLASSES for number in range(MANY)}
    words = [name.removeprefix("coco/").removeprefix("AP/") for name in values]
    return lambda console: [console.print(table) for table in metrics_tables(values)], [*words, "0.501", "0.503"]


def errors() -> tuple[Callable[[Console], Any], list[str]]:
    rows, classes = 1 + len(SIZE_BINS), len(CLASSES)
    counts = np.ones((rows, classes, len(ERRORS)), dtype=np.int64)
    analysis = ErrorAnalysis(np.full((rows, classes), 0.125), counts * 0.625, counts, counts[..., 0])
    return lambda console: console.print(_errors_table(analysis)), [*ERRORS, *SIZE_BINS, "0.125", "0.625"]


def registry() -> tuple[Callable[[Console], Any], list[str]]:
    name, aliases = "detector-of-small-objects-in-aerial-images", ("champion", "production-candidate")
    versions = [
        Version(
            name, str(number), aliases, datetime(2026, 12, 1, tzinfo=UTC), "run", "source",
            {"coco/AP": "0.375", "data.digest": "0123456789abcdef"},
        )
        for number in range(MANY)
    ]  # fmt: skip
    return lambda console: print_models({name: versions}, console), [name, *aliases, "0.375", "0123456789ab"]


def sweep() -> tuple[Callable[[Console], Any], list[str]]:
    keys = ("optim.lr", "loss.one_to_many.dense_loss_weight", "model.iou_aware_head.enabled")
    space = make_space({"parameters": {key: {"choice": [1, 2]} for key in keys}, "budget": {"trials": MANY}})
    history = History([SessionBegan(trials=MANY)])
    for number in range(MANY):
        history.follow(TrialBegan(trial=number, params=dict.fromkeys(keys, 1)))
        history.follow(
            Reported(
                trial=number, epoch=1, step=1, metrics={"coco/AP": 0.375}, seconds=36_000, checkpoint="c",
                verdict="continue",
            )
        )  # fmt: skip
    plan = Plan(trials=MANY, epochs=100, at_once=2, checkpoints=7, checkpoint_bytes=1)

    def show(console: Console) -> None:
        console.print(LiveTable(space, plan, history, console).table())

    return show, ["1/100", "0.375", "running", "990:00:00", "lr=1", "dense_loss_weight=1", f"{SHOWN - 1}"]


TABLES = (jobs, preparation, metrics, errors, registry, sweep)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_table_is_whole_in_80_columns(table: Callable[[], tuple[Callable[[Console], Any], list[str]]]) -> None:
    show, words = table()
    text = io.StringIO()
    show(Console(file=text, width=80, highlight=False))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text.getvalue()
    assert [word for word in words if not is_shown(word, lines)] == []


def is_shown(word: str, lines: list[str]) -> bool:
    """Tell if a text is in the lines, maybe broken into parts, one below the other."""
    return any(begins_at(word, lines[index:], column) for index, line in enumerate(lines) for column in starts(line))


def starts(line: str) -> Iterator[int]:
    """Columns where a word begins."""
    yield from (i for i, letter in enumerate(line) if letter != " " and (i == 0 or line[i - 1] in " (,"))


def begins_at(text: str, lines: list[str], column: int) -> bool:
    """Tell if the lines, read from one column on and from top to bottom, begin with a text."""
    rest = text.replace(" ", "")
    for line in lines:
        before = rest
        for letter in line[column:].replace(" ", ""):
            if not rest or letter != rest[0]:
                break
            rest = rest[1:]
        if not rest:
            return True
        if rest == before:
            return False
    return False
