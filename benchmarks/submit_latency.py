"""Measure the seconds from submission to the first training step, by stages: `mrqm submit` and `ray job submit`.

    make cluster && python benchmarks/submit_latency.py --repeats 3

Both send the same command with the same files to the same cluster, in turns, and every job is stopped after its first
step. The time of a stage is the arrival of its line at the submitter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from cluster.address import find_address
from cluster.dashboard import open_dashboard
from cluster.errors import ClusterError

STAGES = {
    "taken by the cluster": "Runtime env is setting up",
    "job's process starts": "Running entrypoint",
    "command begins": "run       latency",
    "workers start": "starting ",
    "model is built": "model     ",
    "first step": "step 1/",
}
"""Text in the line that marks the end of each stage."""
DATA = ("demo-data", "data/latency", "--train", "8", "--val", "2", "--size", "160", "160")
SETTINGS = ("data.root=data/latency", "model.backbone.weights=data/latency/tf_efficientnet_lite0.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    try:
        dashboard = open_dashboard(find_address(arguments.address))
    except ClusterError as error:
        sys.exit(str(error))
    mrqm = [sys.executable, "-m", "mrqm"]
    known = {"RAY_ADDRESS": dashboard.address, "RAY_AUTH_MODE": "disabled"}
    if dashboard.token:
        known |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": dashboard.token}
    os.environ.update(known)
    subprocess.run([*mrqm, "submit", "--", *DATA], check=True, stdout=subprocess.DEVNULL)
    bare = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", "."]
    ways = {"ray job submit": (bare, ["python", "-m", "mrqm"]), "mrqm submit": ([*mrqm, "submit"], [])}
    times: dict[str, list[list[float]]] = {way: [] for way in ways}
    for number in range(arguments.repeats + 1):
        for way, (command, program) in ways.items():
            name = f"latency-{os.getpid()}-{number}-{way.partition(' ')[0]}"
            training = ["train", "-c", "configs/demo.yaml", f"name={name}", *SETTINGS, *arguments.overrides]
            marks = time_stages([*command, "--submission-id", name, "--", *program, *training])
            subprocess.run([*mrqm, "jobs", "stop", name], check=True, stdout=subprocess.DEVNULL)
            if number:  # the first of each reads files into memory
                times[way].append(marks)
        if number:
            print(f"median of {number}")
            print_table(times)


def time_stages(command: list[str]) -> list[float]:
    """Measure the seconds from a command's start to the end of each stage."""
    begin, marks = time.perf_counter(), []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    waiting = list(STAGES.values())
    for line in process.stdout:
        if waiting and waiting[0] in line:
            marks.append(time.perf_counter() - begin)
            waiting.pop(0)
        if not waiting:
            break
    process.terminate()  # the follower; the job continues
    process.wait()
    if waiting:
        sys.exit(f"{' '.join(command)} ended before {waiting[0]!r} was seen")
    return marks


def print_table(times: dict[str, list[list[float]]]) -> None:
    medians = {way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in times.items()}
    first, second = medians.values()
    print(f"{'seconds after submission':<26}" + "".join(f"{way:>16}" for way in medians) + f"{'ratio':>8}")
    for stage, before, after in zip(STAGES, first, second, strict=True):
        print(f"{stage:<26}{before:>16.2f}{after:>16.2f}{after / before:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
