"""Kill a training worker with SIGKILL; measure the seconds until its next step, and until it repeated the lost steps.

    python benchmarks/recovery.py -c configs/demo.yaml --kills 3 train.checkpoint_minutes=0.1

The training runs in a new folder. Before each kill, a new checkpoint is waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", "-c", default="configs/demo.yaml")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        own = ["name=recovery", f"output_dir={folder}", f"tracking.uri={uri}", "tracking.registered_model_name=null"]
        command = [sys.executable, "-m", "mrqm", "train", "-c", arguments.config, *arguments.overrides, *own]
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            interruptions = [
                kill_and_wait(driver, Path(folder) / "recovery", number) for number in range(arguments.kills)
            ]
        finally:
            driver.send_signal(signal.SIGTERM)
            driver.wait()
    print(f"{'kill':>5}{'to the next step':>18}{'lost in all':>13}")
    for number, interruption in enumerate(interruptions, 1):
        print(f"{number:>5}{interruption['seconds_stopped']:>16.1f} s{interruption['seconds_lost']:>11.1f} s")
    print(f"{'':>5}{statistics.median(i['seconds_stopped'] for i in interruptions):>16.1f} s in the median")


def kill_and_wait(driver: subprocess.Popen[bytes], run: Path, before: int) -> dict[str, float]:
    """Kill a worker after the next checkpoint, and wait until the run's folder has a record of the interruption.

    Args:
        driver: process of `mrqm train`.
        run: folder of the run.
        before: number of earlier interruptions.

    Returns:
        The record, with `seconds_stopped` and `seconds_lost`.
    """
    seen = set(run.glob("epoch_*"))
    while not set(run.glob("epoch_*")) - seen:
        pause(driver)
    os.kill(find_worker(driver.pid), signal.SIGKILL)
    while len(lines := read_lines(run / "interruptions.jsonl")) <= before:
        pause(driver)
    return json.loads(lines[before])


def find_worker(driver: int) -> int:
    """Find the process of a training worker among those that a driver and its Ray started."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # processes end while they are read
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text()
    for process in (pid for pid, name in names.items() if "RayTrainWorker" in name):
        above = process
        while above in parents and above != driver:
            above = parents[above]
        if above == driver:
            return process
    sys.exit("no training worker is running")


def read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def pause(driver: subprocess.Popen[bytes]) -> None:
    """Wait a moment; exit if the training has ended."""
    if driver.poll() is not None:
        sys.exit(f"the training ended with {driver.returncode}; give it more epochs")
    time.sleep(0.05)


if __name__ == "__main__":
    main()
