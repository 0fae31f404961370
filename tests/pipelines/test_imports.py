"""The imports of commands and workers, which delay each of them."""

import subprocess
import sys

import pytest


def said_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_ray_trains_controller_need_not_import_the_model() -> None:
    """The controller imports its callback and backend before any worker starts."""
    made_of = "import sys, pipelines.training.failure_callback, pipelines.compute.torch_backend"
    assert said_by(f"{made_of}; print({{'torchvision', 'timm', 'mlflow'}} & {{*sys.modules}})") == "set()\n"


CONFIGURE = "from pipelines.process.configure import configure_process; configure_process()"


def test_what_is_imported_is_not_searched_for_garbage() -> None:
    code = f"import gc; {CONFIGURE}; import pipelines.training.worker; print(gc.get_stats()[2]['collections'])"
    assert said_by(code) == "0\n"


def test_what_is_left_in_the_end_is_not_taken_apart() -> None:
    code = f"import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); {CONFIGURE}"
    assert said_by(code) == "True\n"


STATE = """
import gc, os, signal, sys, warnings
import ray, ray.train, mlflow, optuna, sklearn, torch, timm, PIL.Image  # what these do is theirs
def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    limits = gc.get_threshold(), PIL.Image.MAX_IMAGE_PIXELS, optuna.logging.get_verbosity()
    hidden = [one for one in warnings.filters if one[2].__module__.startswith('optuna')]
    return dict(os.environ), handlers, limits, sys.excepthook, hidden
"""
EFFECTS = """
import importlib, pkgutil
import cluster, mrqm, pipelines, tune
before = state()
for package in (cluster, mrqm, pipelines, tune):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
        after = state()
        if after != before:
            print(found.name, [(a, b) for a, b in zip(before, after) if a != b])
            before = after
"""


@pytest.mark.slow
def test_importing_changes_nothing_of_the_process() -> None:
    """No module sets environment variables, limits, filters of warnings, or handlers of signals and exits."""
    assert said_by(STATE + EFFECTS) == ""
