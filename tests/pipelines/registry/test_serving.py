"""The registered model where it is used: behind MLflow's server, and in an environment of its requirements alone."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image
from typer.testing import CliRunner

from mrqm.__main__ import app
from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import Config

from ...pages import ROOT, read_blocks
from ..registered import free_port, register_run

pytestmark = pytest.mark.slow
MODEL = "models:/spotter@champion"


@pytest.fixture(scope="module")
def store(tiny_config: Callable[..., Config], make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Database with a champion that uses tiled inference."""
    folder = tmp_path_factory.mktemp("store")
    config = tiny_config("data.classes=[a, b, c]", "data.tile={size: 64, overlap: 16}", "data.scale=0.5")
    save_checkpoint(folder / "checkpoint", make_model(config).state_dict(), {}, config, {})
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        register_run(tiny_config(f"output_dir={folder}/runs"), folder / "checkpoint")
    mlflow.MlflowClient(uri).set_registered_model_alias("spotter", "champion", "1")
    return uri


@pytest.fixture(scope="module")
def model_folder(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The registered model's files."""
    mlflow.set_tracking_uri(store)
    return Path(mlflow.artifacts.download_artifacts(MODEL, dst_path=str(tmp_path_factory.mktemp("files"))))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG that is larger than a window."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    cells = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((320, 240), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def served(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` of the champion."""
    folder, url = tmp_path_factory.mktemp("served"), f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", MODEL, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where MLflow looks for uvicorn
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"MLFLOW_TRACKING_URI": store, "PATH": path}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, TimeoutError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
        yield url
    finally:
        with suppress(ProcessLookupError):  # it never came up
            os.killpg(process.pid, signal.SIGKILL)  # with the server it started
        process.wait()


def ask(url: str, *images: Any) -> Any:
    """Send images to `/invocations`; return status and answer."""
    body = json.dumps({"inputs": images}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def as_text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def predicted(store: str, image: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the detections of an image by `mrqm predict`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    result = CliRunner().invoke(app, ["predict", MODEL, str(image), "--out", str(out), "--no-draw", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    return json.loads((out / "detections.json").read_text())


def assert_same(answer: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Compare an answer's detections with COCO results."""
    assert len(answer["boxes"]) == len(rows) > 0
    boxes = np.array(answer["boxes"])
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    np.testing.assert_allclose(xywh, [row["bbox"] for row in rows], atol=1e-3)
    np.testing.assert_allclose(answer["scores"], [row["score"] for row in rows], atol=1e-5)
    assert [label + 1 for label in answer["labels"]] == [row["category_id"] for row in rows]


# ---------------------------------------------------------------------------------------------------- served


def test_a_served_model_answers_with_the_boxes_of_mrqm_predict(
    served: str, store: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, answer = ask(served, as_text(photo))
    assert status == 200
    assert_same(answer["predictions"][0], predicted(store, photo, tmp_path / "out", monkeypatch))


def test_the_requests_of_the_documents_are_answered(served: str, photo: Path, tmp_path: Path) -> None:
    for name in ("street.jpg", "field.png"):
        Image.open(photo).save(tmp_path / name)
    blocks = [block for block in read_blocks(ROOT / "docs" / "guides" / "serving.md") if "127.0.0.1:5001" in block.text]
    (pipeline,) = (block.text for block in blocks if block.is_pipeline)
    (code,) = (block.text for block in blocks if block.language == "python")

    def answer(program: str, text: str) -> str:
        command = [program, "-c", text.replace("http://127.0.0.1:5001", served)]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert len(json.loads(answer("bash", pipeline))["predictions"]) == 1
    assert len(answer(sys.executable, code).splitlines()) == 2


def test_the_same_on_a_real_image(
    served: str, store: str, visdrone_mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = min((visdrone_mini / "VisDrone2019-DET-val/images").iterdir(), key=lambda path: path.stat().st_size)
    status, answer = ask(served, as_text(image))
    assert status == 200
    assert_same(answer["predictions"][0], predicted(store, image, tmp_path / "out", monkeypatch))


def test_a_request_of_several_images_is_answered_in_order(served: str, photo: Path) -> None:
    small = np.asarray(Image.open(photo))[:20, :30].tolist()
    _, together = ask(served, as_text(photo), small, as_text(photo))
    first, second, third = together["predictions"]
    np.testing.assert_allclose(first["scores"], third["scores"], atol=1e-4)
    assert max(box[2] for box in second["boxes"]) <= 30


def test_an_image_that_is_none_is_answered_with_400_and_a_reason(served: str, photo: Path) -> None:
    noise = base64.b64encode(bytes(300_000)).decode()
    status, answer = ask(served, as_text(photo), noise)
    assert status == 400
    assert answer["message"] == "image 1: 300,000 bytes: the image does not decode: no image header"


def test_files_of_the_server_cannot_be_named(served: str, photo: Path) -> None:
    status, answer = ask(served, str(photo))
    assert status == 400
    assert "is not base64" in answer["message"]


@pytest.mark.parametrize("inputs", ["", 3, {"image": "a"}])
def test_a_request_that_is_no_list_is_answered_with_400(served: str, inputs: Any) -> None:
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(f"{served}/invocations", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=60)


# -------------------------------------------------------------------------------------------------- the model


def test_the_model_says_what_it_takes(model_folder: Path) -> None:
    loaded = mlflow.models.Model.load(str(model_folder))
    assert [spec.to_dict() for spec in loaded.signature.inputs] == [{"type": "any", "required": True}]
    example = json.loads((model_folder / "serving_input_example.json").read_text())
    assert len(json.dumps(example)) < 1000
    assert [type(image) for image in example["inputs"]] == [str]


def test_the_model_holds_no_pickle(model_folder: Path) -> None:
    files = [path for path in model_folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".pyc")]
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05")]


def closure(requirements: Path) -> set[str]:
    """List the distributions that requirements install; check that every version is exact and installed."""
    waiting = [Requirement(line) for line in requirements.read_text().split()]
    assert all(str(requirement.specifier).startswith("==") for requirement in waiting)
    found: dict[str, set[str]] = {}
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        assert installed.version in requirement.specifier
        if name in found and requirement.extras <= found[name]:
            continue
        extras = found.setdefault(name, set()) | requirement.extras
        found[name] = extras
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras or {""}):
                waiting.append(needed)
    return set(found)


def test_the_model_works_where_only_its_requirements_are_installed(
    model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    names = closure(model_folder / "requirements.txt")
    assert "ray" not in names and "mrqm" not in names
    for name in names:
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top != ".." and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    code = (
        f"import sys, pathlib; sys.path.append({str(packages)!r})\n"
        "import mlflow\n"
        f"found = mlflow.pyfunc.load_model({str(model_folder)!r}).predict([pathlib.Path({str(photo)!r})])\n"
        f"import mrqm; assert mrqm.__file__.startswith({str(model_folder)!r}), mrqm.__file__\n"
        "print('boxes:', len(found[0]['boxes']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"boxes: [1-9]", ended.stdout)
