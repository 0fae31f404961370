import io
import logging
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from mrqm.structures.step_report import StepReport
from pipelines.compute.messages import EpochReport, Started
from pipelines.console.training_display import Display

COLUMNS = ("AP", "AP50", "AP75", "AP_small")

MakeStep = Callable[..., StepReport]


@pytest.fixture
def make_step() -> MakeStep:
    def build(epoch_step: int = 1, loss: float = 4.21) -> StepReport:
        return StepReport(
            epoch=3,
            epochs=30,
            step=80 + epoch_step,
            epoch_step=epoch_step,
            epoch_steps=40,
            losses={"loss": loss, "loss_class": 0.5, "loss_bbox": 0.25, "loss_giou": 0.75, "loss_class_dn": 0.1},
            lr=1e-4,
            images_per_second=18.34,
            images_seen=900,
            elapsed_seconds=62.0,
            eta_seconds=250.0,
        )

    return build


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def display(log: io.StringIO) -> Display:
    return Display(Console(file=log), COLUMNS)


def test_a_step_says_where_the_training_is(display: Display, log: io.StringIO, make_step: MakeStep) -> None:
    display.step(make_step(12))
    assert log.getvalue() == (
        "epoch 3/30 · step 12/40 · 18.3 img/s · loss 4.21 (class 0.50 bbox 0.25 giou 0.75) · ETA 04:10\n"
    )


def test_a_log_gets_a_step_now_and_then(display: Display, log: io.StringIO, make_step: MakeStep) -> None:
    for step in range(1, 40):
        display.step(make_step(step))
    assert log.getvalue().count("\n") == 1


def test_finished_epochs_are_rows_of_one_table(display: Display, log: io.StringIO, make_step: MakeStep) -> None:
    display.step(make_step(40))
    for epoch in (3, 4):
        metrics = {
            "train/loss": 4.0,
            "coco/AP": 0.25,
            "coco/AP50": 0.5,
            "coco/AP75": 0.125,
            "coco/AP_small": float("nan"),
        }
        display.epoch(EpochReport(epoch=epoch, epochs=30, step=120, metrics=metrics, picture=None))
    head, *rows = log.getvalue().splitlines()[1:]
    assert head.split() == ["epoch", "loss", "img/s", "trained", "AP", "AP50", "AP75", "AP_small"]
    assert [row.split() for row in rows] == [
        [f"{epoch}/30", "4.000", "18.3", "01:02", "0.250", "0.500", "0.125", "–"] for epoch in (3, 4)
    ]


def test_an_epoch_without_evaluation_leaves_its_metrics_blank(display: Display, log: io.StringIO) -> None:
    display.epoch(EpochReport(epoch=1, epochs=2, step=4, metrics={"train/loss": 4.0}, picture=None))
    assert log.getvalue().splitlines()[1].split() == ["1/2", "4.000"]


def test_a_note_is_said_once(display: Display, log: io.StringIO) -> None:
    display.note("a.jpg: skipped")
    display.note("a.jpg: skipped")
    assert log.getvalue() == "note: a.jpg: skipped\n"


def test_warnings_of_this_process_are_notes(display: Display, log: io.StringIO) -> None:
    with display:
        logging.getLogger("mrqm.data").warning("b.jpg; skipped")
    logging.getLogger("mrqm.data").warning("too late")
    assert log.getvalue() == "note: b.jpg; skipped\n"


def test_brackets_are_printed_as_they_are(display: Display, log: io.StringIO) -> None:
    display.line("data/[old]/train")
    assert log.getvalue() == "data/[old]/train\n"


def test_a_continued_run_says_so(display: Display, log: io.StringIO) -> None:
    display.started(Started(epoch=7, step=0, num_parameters=12_300_000, epoch_steps=40, workers=2))
    assert "12.3 M parameters, 40 steps per epoch" in log.getvalue()
    assert "continues after epoch 7\n" in log.getvalue()
    display.started(Started(epoch=0, step=12, num_parameters=12_300_000, epoch_steps=40, workers=2))
    assert "continues after epoch 0, step 12\n" in log.getvalue()


def test_a_terminal_shows_a_live_line(make_step: MakeStep) -> None:
    log = io.StringIO()
    with Display(Console(file=log, force_terminal=True, width=140), COLUMNS) as display:
        display.step(make_step(12))
        display.line("kept")
    assert "step 12/40" in log.getvalue()
    assert "kept" in log.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_live_line_keeps_epoch_bar_step_and_the_time_left_in_any_width(width: int) -> None:
    losses = {"loss": 123.456, "loss_class": 0.5, "loss_bbox": 0.25, "loss_giou": 0.75}
    report = StepReport(
        epoch=100, epochs=100, step=123456, epoch_step=1234, epoch_steps=1234, losses=losses, lr=1e-4,
        images_per_second=1234.5, images_seen=900, elapsed_seconds=62.0, eta_seconds=45_296.0,
    )  # fmt: skip
    log = io.StringIO()
    with Display(Console(file=log, force_terminal=True, width=width, color_system=None), COLUMNS) as display:
        display.step(report)
    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", log.getvalue())]
    (live,) = {line.rstrip() for line in shown if "step 1234" in line}
    assert len(live) <= width
    assert live.startswith("epoch 100/100 ━━━━━━━━━━ step 1234/1234 · ")
    assert live.endswith("ETA 12:34:56")
    parts = ("loss 123.46", "img/s", "giou 0.75")
    assert [part in live for part in parts] == [width > 60, width > 80, width > 100]
