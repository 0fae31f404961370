"""Exported files in ONNX Runtime: the detections of PyTorch, batches of any number, and refusals in one sentence."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto
from PIL import Image
from torch import Tensor
from torch.export import Dim
from typer.testing import CliRunner

import mrqm
from mrqm.__main__ import app
from mrqm.checkpoint.folder import save_checkpoint
from mrqm.data.synthetic.scene import make_scene
from mrqm.inference.detector import Detector
from mrqm.ops.nms import suppress
from pipelines.export import export as export_module
from pipelines.export.onnx import INPUTS, OUTPUTS, _suppress
from pipelines.export.verify import Agreement, OnnxDetector, OnnxError, compare

pytestmark = pytest.mark.slow
SIDE = 64


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def refuse(*words: str) -> str:
    code, output = run(*words)
    assert code == 2, output
    assert output.startswith("error: ")
    return output


@pytest.fixture(scope="module")
def checkpoint(tiny_config: Any, make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a model with tiled inference and NMS of queries and detections."""
    config = tiny_config(
        "data.classes=[a, b, c]", f"data.tile={{size: {SIDE}, overlap: 16}}", "model.query_nms_iou=0.6",
        "evaluation.nms_iou=0.5", "data.root=nowhere",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    metrics = {"coco/AP": 0.123456, "train/loss": 1.0}
    save_checkpoint(folder, make_model(config).state_dict(), {}, config, metrics)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Exported file, and the output of the command."""
    out = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    code, output = run(str(checkpoint), str(out))
    assert code == 0, output
    return out, output


@pytest.fixture(scope="module")
def graph(exported: tuple[Path, str]) -> ModelProto:
    return onnx.load(exported[0])


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> Detector:
    return mrqm.load(checkpoint)


@pytest.fixture(scope="module")
def windows() -> list[Tensor]:
    """Windows of scenes that the command did not use; the last two are smaller than a batch."""
    scenes = [torch.from_numpy(make_scene((96, 96), (7, number)).image).permute(2, 0, 1) for number in range(4)]
    return [*(scene[:, :SIDE, :SIDE] for scene in scenes), scenes[0][:, :40, :SIDE], scenes[1][:, :33, :50]]


# ------------------------------------------------------------------------------------------------------ the file


def test_the_command_says_how_far_the_file_is_from_pytorch(exported: tuple[Path, str]) -> None:
    out, said = exported
    assert "generated scenes (the training's data are missing" in said
    assert f"{out}: " in said and "in batches of 1 and 3; largest difference from PyTorch" in said
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batches_of_any_number_give_what_pytorch_gives(
    count: int, exported: tuple[Path, str], detector: Detector, windows: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.export.verify.BATCH_SIZES", (count,))
    agreement = compare(detector, OnnxDetector(exported[0], (SIDE, SIDE)), windows)
    assert agreement.images == len(windows) // count * count
    assert agreement.detections > 10 * agreement.images
    assert agreement.close, agreement


def test_another_model_does_not_agree_with_the_file(
    exported: tuple[Path, str], detector: Detector, windows: list[Tensor], make_model: Any
) -> None:
    other = Detector(make_model(detector.config, seed=1), detector.config, torch.device("cpu"))
    agreement = compare(other, OnnxDetector(exported[0], (SIDE, SIDE)), windows)
    assert not agreement.close and agreement.unmatched > 0


def test_suppressed_detections_come_last_and_score_nothing(exported: tuple[Path, str], windows: list[Tensor]) -> None:
    session = onnxruntime.InferenceSession(str(exported[0]))
    images = torch.stack(windows[:2]).numpy()
    _, scores, _ = session.run(None, {"images": images, "sizes": np.array([[SIDE, SIDE]] * 2)})
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (scores[:, -1] == 0).all() and (scores[:, 0] > 0).all()


def test_the_example_of_the_documents_runs(
    exported: tuple[Path, str], detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = Path(mrqm.__file__).parents[1] / "docs/guides/export.md"
    (code,) = re.findall(r"```python\n(.*?)```", documents.read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mrqm.onnx").symlink_to(exported[0])
    Image.fromarray(make_scene((60, 50), (8,)).image).save(tmp_path / "window.jpg")
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path("example.py")
    expected = detector(Path("window.jpg"))
    count = len(expected["scores"])
    assert count > 10 and names["classes"] == ["a", "b", "c"]
    np.testing.assert_allclose(names["scores"][0, :count], expected["scores"], atol=1e-3)
    np.testing.assert_allclose(names["boxes"][0, 0], expected["boxes"][0], atol=0.1)


def test_inputs_outputs_and_opset_are_those_of_the_documents(graph: ModelProto) -> None:
    assert [value.name for value in graph.graph.input] == list(INPUTS)
    assert [value.name for value in graph.graph.output] == list(OUTPUTS)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
    for value in (*graph.graph.input, *graph.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param  # a symbol, no number
    assert [dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim][1:] == [3, SIDE, SIDE]


def test_metadata_tell_classes_input_score_and_origin(graph: ModelProto, checkpoint: Path) -> None:
    found = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(found["classes"]) == ["a", "b", "c"]
    assert found["coco/AP"] == "0.123456" and found["protocol.coco"].startswith("2 maxDets=")
    assert "train/loss" not in found
    assert len(found["checkpoint.sha256"]) == 64
    assert f"{SIDE}, {SIDE}" in found["images"] and json.loads(found["data.tile"])["size"] == SIDE


def test_nothing_of_training_is_in_the_graph(graph: ModelProto) -> None:
    names = [tensor.name for tensor in graph.graph.initializer]
    assert any("decoder" in name for name in names)
    assert not [name for name in names if "denoising" in name or "iou_aware_head" in name]
    operators = {node.op_type for node in graph.graph.node}
    assert "GridSample" in operators
    assert not operators & {"Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def test_no_path_of_this_machine_is_in_the_file(exported: tuple[Path, str]) -> None:
    assert str(Path(mrqm.__file__).parent).encode() not in exported[0].read_bytes()


def test_suppression_in_onnx_is_that_of_pytorch(tmp_path: Path) -> None:
    class Suppress(torch.nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
            return suppress(boxes, scores, groups, 3, 0.4)

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(4, 50, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 2 + torch.rand(4, 50, 2, generator=generator) * 8], -1)
    scores, groups = torch.rand(4, 50, generator=generator), torch.randint(0, 3, (4, 50), generator=generator)
    path = tmp_path / "suppress.onnx"
    torch.onnx.export(
        torch.export.export(Suppress(), (boxes, scores, groups), dynamic_shapes=({0: Dim("batch", min=1)},) * 3),
        f=str(path), opset_version=18, custom_translation_table={torch.ops.mrqm.suppress.default: _suppress},
        input_names=["boxes", "scores", "groups"], verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path))
    for part in (slice(0, 4), slice(1, 2)):
        inputs = (boxes[part], scores[part], groups[part])
        (kept,) = session.run(None, dict(zip(("boxes", "scores", "groups"), map(Tensor.numpy, inputs), strict=True)))
        expected = suppress(*inputs, 3, 0.4)
        assert kept.tolist() == expected.tolist()
        assert 0 < kept.sum() < kept.size


# -------------------------------------------------------------------------------------------------- the comparison


def found(*rows: tuple[float, float, int]) -> dict[str, Tensor]:
    """Make detections from (left, score, label), with boxes of 10 px."""
    left = torch.tensor([row[0] for row in rows])
    zeros = torch.zeros_like(left)
    boxes = torch.stack([left, zeros, left + 10, zeros + 10], -1)
    return {"boxes": boxes, "scores": torch.tensor([r[1] for r in rows]), "labels": torch.tensor([r[2] for r in rows])}


LAST = (90.0, 0.1, 0)


def test_detections_that_change_places_are_the_same() -> None:
    agreement = Agreement()
    agreement.add(found((0, 0.9, 1), (20, 0.9, 1), LAST), found((20, 0.9001, 1), (0.05, 0.9, 1), LAST))
    assert agreement.close and agreement.detections == 2
    assert agreement.scores == pytest.approx(1e-4, abs=1e-6) and agreement.boxes == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    "other",
    [
        found((0, 0.9, 2), LAST),  # another class
        found((5, 0.9, 1), LAST),  # another place
        found((0, 0.898, 1), LAST),  # another score
        found((0.5, 0.9, 1), LAST),  # shifted
        found((0, 0.9, 1), (50, 0.8, 1), LAST),  # one more
        found(LAST),  # none
    ],
)
def test_detections_that_differ_do_not_agree(other: dict[str, Tensor]) -> None:
    agreement = Agreement()
    agreement.add(found((0, 0.9, 1), LAST), other)
    assert not agreement.close


def test_nothing_found_proves_nothing() -> None:
    agreement = Agreement()
    agreement.add(found(LAST), found(LAST))
    assert not agreement.close


# -------------------------------------------------------------------------------------------------------- refusals


def test_a_file_that_is_not_the_model_is_not_written(
    exported: tuple[Path, str], detector: Detector, make_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.onnx").write_bytes(b"the former one")
    save_checkpoint(tmp_path / "other", make_model(detector.config, seed=1).state_dict(), {}, detector.config, {})
    monkeypatch.setattr("pipelines.export.onnx.write_onnx", lambda _, path, *others: shutil.copy(exported[0], path))
    code, said = run(str(tmp_path / "other"), str(tmp_path / "kept.onnx"))
    assert code == 2
    assert "error: the exported graph differs from the model: of " in said and "nothing was written" in said
    assert {path.name for path in tmp_path.iterdir()} == {"kept.onnx", "other"}
    assert (tmp_path / "kept.onnx").read_bytes() == b"the former one"


@pytest.fixture
def unwritten(tmp_path: Path) -> Iterator[str]:
    """Path of a file that is never written."""
    yield str(tmp_path / "out.onnx")
    assert not list(tmp_path.glob("*.onnx"))


def test_a_missing_extra_is_named_with_the_command(
    checkpoint: Path, unwritten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "EXTRA", ("onnx", "no_such_package"))
    assert refuse(str(checkpoint), unwritten).endswith("mrqm export needs no_such_package: pip install 'mrqm[export]'")


def test_a_size_that_images_do_not_fit_into_is_refused(checkpoint: Path, unwritten: str) -> None:
    said = refuse(str(checkpoint), unwritten, "--size", "32", "64")
    assert "--size 32 64: the model's input images have 64 x 64 px here" in said


def test_a_model_of_images_of_any_size_wants_a_size(checkpoint: Path, unwritten: str) -> None:
    assert "give --size" in refuse(str(checkpoint), unwritten, "data.tile=null")


def test_names_that_cannot_be_are_refused(checkpoint: Path, unwritten: str, tmp_path: Path) -> None:
    assert "ends in .onnx" in refuse(str(checkpoint), str(tmp_path / "out.pt"))
    (tmp_path / "file").touch()
    assert "file is a file, not a folder" in refuse(str(checkpoint), str(tmp_path / "file/new/out.onnx"))
    assert "not a checkpoint folder" in refuse(str(tmp_path), unwritten)
    assert "no such file or folder" in refuse(str(checkpoint), unwritten, "--images", "nowhere")


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(OnnxError, match=r"a\.onnx: the exported graph is not valid"):
        OnnxDetector(tmp_path / "a.onnx", (SIDE, SIDE))
