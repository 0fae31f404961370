"""The front door with real parts: a Ray head behind a token, an MLflow server, jobs through the HTTP API.

The tests share one cluster and come in the order of a day's work. The commands are those of the page for one machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from cluster.local import MARK

from ..pages import ROOT, read_blocks, read_commands
from .folders import Place
from .terminal import Terminal

pytestmark = pytest.mark.ray

LAPTOP = ROOT / "docs" / "guides" / "clusters" / "laptop.md"
FIRST_BLOCK = list(read_blocks(LAPTOP)[0].commands())
SMALLER = {
    "demo-data": ["--train", "3", "--val", "1"],
    "train": ["train.epochs=1", "scaling.num_workers=1", "tracking.registered_model_name=demo-detector"],
}
"""Overrides for the page's commands, so that they end soon."""


@pytest.fixture
def terminal(submitter: Place) -> Iterator[Callable[..., Terminal]]:
    """Start commands of the submitter in terminals."""
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(submitter.command(*words), submitter.folder, submitter.environment))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def state(cluster: Place) -> dict[str, str]:
    return dict(json.loads((cluster.folder / ".cluster" / "cluster.json").read_text()))


def with_mark(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_make_starts_and_ends_the_cluster() -> None:
    assert read_commands(LAPTOP)[0] == ["make", "cluster"]
    assert read_commands(LAPTOP)[-1][0] == "docker"
    assert FIRST_BLOCK[-1] == ["make", "cluster-down"]
    for target, verb in (("cluster", "up"), ("cluster-down", "down")):
        shown = subprocess.run(
            ["make", "--no-print-directory", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert shown.splitlines()[-1].endswith(f"/mrqm cluster {verb}")


def test_starting_it_again_says_what_runs(cluster: Place) -> None:
    before = state(cluster)
    again = cluster.run("mrqm", "cluster", "up")
    assert again.stdout.startswith("the cluster of this folder is already running\n")
    assert before["dashboard"] in again.stdout
    assert state(cluster) == before
    assert cluster.run("mrqm", "cluster", "status").returncode == 0


def test_only_the_token_opens_it(cluster: Place, submitter: Place, tmp_path: Path) -> None:
    words = ("mrqm", "submit", "--", "registry", "list")
    assert (cluster.folder / ".cluster" / "auth_token").stat().st_mode & 0o777 == 0o600
    missing = submitter.run(*words, RAY_AUTH_TOKEN_PATH="")
    assert missing.returncode == 2
    assert "requires a token, and none was found" in missing.stderr
    (tmp_path / "wrong").write_text("0" * 64)
    wrong = submitter.run(*words, RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))
    assert wrong.returncode == 2
    assert f"refused the token of {tmp_path}/wrong (HTTP 403)" in wrong.stderr
    assert submitter.run("mrqm", "jobs", "list").stdout.startswith("no jobs at http")


def test_the_pages_commands_lead_to_a_registered_model(cluster: Place, submitter: Place) -> None:
    sent = [words for words in FIRST_BLOCK if words[:2] == ["mrqm", "submit"]]
    assert [words[words.index("--") + 1] for words in sent] == ["demo-data", "train"]
    for words in sent:
        done = submitter.run(*words, *SMALLER[words[words.index("--") + 1]])
        assert done.returncode == 0, done.stdout + done.stderr
    server = state(cluster)["mlflow"]
    *_, address = done.stdout.splitlines()
    assert address.startswith(f"mlflow run {server}/#/runs/")
    client = MlflowClient(server)
    assert client.get_run(address.rpartition("/")[2]).info.status == "FINISHED"
    (version,) = client.search_model_versions("name='demo-detector'")
    assert version.run_id == address.rpartition("/")[2]
    assert (cluster.folder / "runs" / "demo" / "summary.json").is_file()
    assert not any((submitter.folder / name).exists() for name in ("runs", "data", "mlflow.db", "mlruns"))


def test_a_jobs_exit_code_and_last_lines_reach_the_submitter(submitter: Place) -> None:
    sent = submitter.run(
        "mrqm", "submit", "--no-follow", "--submission-id", "fails", "--", "registry", "show", "nothing/7"
    )
    assert sent.returncode == 0, sent.stderr
    assert "mrqm jobs logs fails --follow" in sent.stdout
    followed = submitter.run("mrqm", "jobs", "logs", "fail", "--follow")
    assert followed.returncode == 2
    assert "error: " in followed.stdout
    assert "nothing/7" in followed.stdout
    assert followed.stdout.endswith("job fails failed, exit code 2\n")
    assert "failed (2)" in submitter.run("mrqm", "jobs", "list").stdout
    again = submitter.run("mrqm", "submit", "--submission-id", "fails", "--", "registry", "list")
    assert again.returncode == 2
    assert "fails already exists" in again.stderr


def test_nodes_without_the_package_are_told(submitter: Place, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(Path(os.path.realpath(psutil.Process().exe())))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").touch()
    elsewhere = Place(tmp_path / "work", submitter.environment)
    path = f"PATH={tmp_path}/bin:/usr/bin:/bin"
    done = elsewhere.run("mrqm", "submit", "--env", path, "--env", "PYTHONPATH=", "--", "registry", "list")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: the cluster's Python has no module " in done.stdout


def test_a_training_is_followed_through_a_restart_and_stopped_by_ctrl_c(
    cluster: Place, submitter: Place, terminal: Callable[..., Terminal]
) -> None:
    endless = ("name=long", "train.epochs=500", "train.evaluate_every=500", "scaling.num_workers=1")
    training = ("train", "-c", "configs/demo.yaml", *endless)
    bare = ("--submission-id", "long", "--no-wait", "--working-dir", ".", "--", "python", "-m", "mrqm", *training)
    sent = submitter.run("ray", "job", "submit", *bare)  # Ray's own command works as it stands
    assert sent.returncode == 0, sent.stdout + sent.stderr
    first = terminal("mrqm", "jobs", "logs", "long", "--follow")
    first.wait_for("step 1/")
    restart_dashboard(state(cluster)["name"], lambda: first.wait_for("lost; the job continues, reconnecting"))
    first.wait_for("epoch ")
    assert first.shown.count("Running entrypoint for job") == 1

    second = subprocess.Popen(
        submitter.command("mrqm", "jobs", "logs", "long", "--follow"), cwd=submitter.folder,
        env=submitter.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert second.stdout is not None
    while "epoch" not in second.stdout.readline():
        assert second.poll() is None
    second.send_signal(signal.SIGINT)
    said = second.stdout.read()
    assert second.wait(60) == 130
    assert "continues; follow it: mrqm jobs logs long --follow" in said

    first.type("\x03")
    first.wait_for("[s]top the job")
    first.type("s\n")
    assert first.end() == 143, first.shown
    assert "stopped, exit code 143" in first.shown
    (run_id,) = json.loads((cluster.folder / "runs" / "long" / "mlflow.json").read_text()).values()
    assert MlflowClient(state(cluster)["mlflow"]).get_run(run_id).info.status == "KILLED"
    assert "has stopped already" in submitter.run("mrqm", "jobs", "stop", "long").stdout


def restart_dashboard(mark: str, between: Callable[[], None]) -> None:
    """End the head's dashboard, wait, and start it again with the same command."""
    (dashboard,) = [each for each in with_mark(mark) if "dashboard.py" in " ".join(each.cmdline()[:4])]
    command, surroundings = dashboard.cmdline(), dashboard.environ()
    dashboard.terminate()
    psutil.wait_procs([dashboard], 30)
    between()
    subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_who_follows_a_job_is_told_that_its_head_was_started_anew(
    cluster: Place, submitter: Place, terminal: Callable[..., Terminal]
) -> None:
    endless = ("demo-data", "data/endless", "--train", "1000000")
    sent = submitter.run("mrqm", "submit", "--no-follow", "--submission-id", "begun", "--", *endless)
    assert sent.returncode == 0, sent.stderr
    follower = terminal("mrqm", "jobs", "logs", "begun", "--follow")
    follower.wait_for("Running entrypoint for job")
    before = state(cluster)
    below = [each for marked in with_mark(before["name"]) for each in marked.children()]
    kill_all(before["name"])
    follower.wait_for("lost; the job continues, reconnecting")
    ports = [before[service].rpartition(":")[2] for service in ("dashboard", "mlflow")]
    anew = cluster.run("mrqm", "cluster", "up", "--dashboard-port", ports[0], "--mlflow-port", ports[1])
    assert anew.returncode == 0, anew.stdout + anew.stderr
    assert follower.end() == 2
    assert f"{before['dashboard']} has no record of job begun any more: its head was restarted" in follower.shown
    assert [each.name() for each in below if each.is_running()] == []


def kill_all(mark: str) -> None:
    """As a machine that goes down: what watches over jobs first, so that it tells nobody how they end."""
    for process in sorted(with_mark(mark), key=lambda each: "dashboard.py" not in " ".join(each.cmdline()[:4])):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_down_leaves_nothing_behind_but_what_was_made(cluster: Place) -> None:
    before = state(cluster)
    head = next(each for each in with_mark(before["name"]) if "raylet" in each.name())
    head.kill()  # a crash: what it leaves is ended all the same
    ended = cluster.run("mrqm", "cluster", "down")
    assert ended.returncode == 0, ended.stderr
    assert with_mark(before["name"]) == []
    assert not Path(before["ray_files"]).exists()
    assert (cluster.folder / "runs" / "demo").is_dir()
    assert (cluster.folder / "mlflow.db").is_file()
    assert "no cluster was started" in cluster.run("mrqm", "cluster", "down").stdout
    assert cluster.run("mrqm", "cluster", "status").returncode == 1
