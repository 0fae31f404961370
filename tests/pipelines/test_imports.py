"""What a process imports before it works, which every command and every worker waits for."""

import subprocess
import sys


def said_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_ray_trains_controller_need_not_import_the_model() -> None:
    """No worker starts before it has imported what its callback and its backend are made of."""
    made_of = "import sys, pipelines.training.failure_callback, pipelines.compute.torch_backend"
    assert said_by(f"{made_of}; print({{'torchvision', 'timm', 'mlflow'}} & {{*sys.modules}})") == "set()\n"


def test_what_is_imported_is_not_searched_for_garbage() -> None:
    assert said_by("import gc, pipelines.training.worker; print(gc.get_stats()[2]['collections'])") == "0\n"


def test_what_is_left_in_the_end_is_not_taken_apart() -> None:
    code = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); import pipelines"
    assert said_by(code) == "True\n"
