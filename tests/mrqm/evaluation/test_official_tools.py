"""`mrqm evaluate --predictions` against the benchmarks' own rules, on annotations with typical irregularities."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from pipelines.console.progress import ImageProgress
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.request import Request

from . import naive

HEIGHT, WIDTH = 60, 80
CATEGORIES = (1, 5, 9)
SODA_CATEGORIES = (1, 2, 9)
SODA_AREAS = {"": (0, 1024), "_eS": (0, 144), "_rS": (144, 400), "_gS": (400, 1024), "_N": (1024, 2000)}
STATS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR@1", "AR@10", "AR@100", "AR_small", "AR_medium",
         "AR_large")  # fmt: skip
EXACT = {"abs": 1e-9, "rel": 0, "nan_ok": True}
SETTINGS = settings(
    max_examples=12,
    derandomize=True,
    phases=(Phase.generate,),  # shrinking would run whole evaluations for minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

tenths = st.integers(-150, 900).map(lambda n: n / 10)
sides = st.one_of(st.just(0.0), st.integers(1, 450).map(lambda n: n / 10), st.sampled_from([12.0, 20.0, 32.0]))
boxes = st.tuples(tenths, tenths, sides, sides)  # some outside the image, some without an area
flag = st.sampled_from([0, 0, 0, 1])
objects = st.lists(
    st.fixed_dictionaries(
        {"image": st.integers(1, 3), "label": st.integers(0, 2), "box": boxes, "crowd": flag, "ignore": flag}
        | {"scale": st.sampled_from([1.0, 1.0, 0.6])}
    ),
    min_size=1,
    max_size=12,
)
detections = st.lists(
    st.fixed_dictionaries(
        {"near": st.integers(0, 15), "image": st.integers(1, 3), "label": st.integers(0, 2), "box": boxes}
        | {"shift": st.tuples(*[st.integers(-15, 15).map(lambda n: n / 10)] * 4), "score": st.integers(1, 9)}
    ),
    max_size=25,
)


def place(truth: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move most of the drawn detections near an object."""
    placed = []
    for row in found:
        box, image, label = row["box"], row["image"], row["label"]
        if row["near"] < len(truth):
            target = truth[row["near"]]
            image, label = target["image"], target["label"] if row["score"] % 4 else label
            box = tuple(value + shift for value, shift in zip(target["box"], row["shift"], strict=True))
        box = (*box[:2], max(box[2], 0.0), max(box[3], 0.0))
        placed.append({"image": image, "label": label, "box": box, "score": row["score"] / 10})
    return placed


def metrics_of(config: Path, results: Path, *protocols: str) -> dict[str, float]:
    request = Request(predictions=results, config=config, protocols=protocols)
    return evaluate(request, ImageProgress(Console(file=io.StringIO()))).metrics


def write_images(folder: Path) -> list[dict[str, Any]]:
    """Write three black images, once."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in (1, 2, 3):
        if not (folder / f"{number}.png").exists():
            Image.new("L", (WIDTH, HEIGHT)).save(folder / f"{number}.png")
    return [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2, 3)]


def write_coco(folder: Path, truth: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> tuple[Path, Path]:
    """Write the annotations and the configuration that names them; results lie beside them."""
    annotations = [
        {"id": number, "image_id": o["image"], "category_id": CATEGORIES[o["label"]], "bbox": o["box"],
         "area": o["box"][2] * o["box"][3] * o["scale"], "iscrowd": o["crowd"]}
        for number, o in enumerate(truth, start=1)
    ]  # fmt: skip
    categories = [{"id": number, "name": f"class {number}"} for number in CATEGORIES]
    content = {"images": write_images(folder / "val"), "annotations": annotations, "categories": categories}
    (folder / "val" / "annotations.json").write_text(json.dumps(content))
    results = [
        {"image_id": d["image"], "category_id": CATEGORIES[d["label"]], "bbox": d["box"], "score": d["score"]}
        for d in found
    ]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "c.yaml").write_text(f"data: {{format: coco, root: {folder}, train: val, val: val}}\n")
    return folder / "val" / "annotations.json", folder / "c.yaml"


def pycocotools(annotations: Path, results: Path) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        evaluation = COCOeval(truth, truth.loadRes(str(results)) if json.loads(results.read_text()) else COCO(), "bbox")
        evaluation.params.imgIds = sorted(truth.getImgIds())
        evaluation.params.catIds = sorted(truth.getCatIds())
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: math.nan if v == -1 else v for name, v in zip(STATS, evaluation.stats.tolist(), strict=True)}


def compare_with_pycocotools(annotations: Path, config: Path, results: Path) -> dict[str, float]:
    expected = pycocotools(annotations, results)
    metrics = metrics_of(config, results, "coco")
    assert {name: metrics[f"coco/{name}"] for name in expected} == pytest.approx(expected, **EXACT)
    return expected


A_CAR = {"image": 1, "label": 0, "box": (10.1, 10.2, 20.3, 9.7), "crowd": 0, "ignore": 0, "scale": 1.0}


@SETTINGS
@given(objects, detections)
def test_coco_is_pycocotools(tmp_path: Path, truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    truth = [A_CAR, *truth]
    annotations, config = write_coco(tmp_path, truth, place(truth, found))
    compare_with_pycocotools(annotations, config, tmp_path / "results.json")


@SETTINGS
@given(objects, detections)
def test_soda_d_is_the_benchmarks_tool(
    tmp_path: Path, truth: list[dict[str, Any]], found: list[dict[str, Any]]
) -> None:
    truth = [A_CAR, *truth]
    found = place(truth, found)
    region = {"id": 99, "image_id": 1, "category_id": 10, "bbox": [30, 10, 30, 30], "area": 900, "ignore": 1}
    annotations = [
        {"id": number, "image_id": o["image"], "category_id": SODA_CATEGORIES[o["label"]], "bbox": o["box"],
         "area": o["box"][2] * o["box"][3] * o["scale"], "iscrowd": o["crowd"], "ignore": o["ignore"]}
        for number, o in enumerate(truth, start=1)
    ]  # fmt: skip
    (tmp_path / "Annotations").mkdir(exist_ok=True)
    content = {"images": write_images(tmp_path / "Images"), "annotations": [region, *annotations]}
    (tmp_path / "Annotations" / "val.json").write_text(json.dumps(content))
    results = [
        {"image_id": d["image"], "category_id": SODA_CATEGORIES[d["label"]], "bbox": d["box"], "score": d["score"]}
        for d in found
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "c.yaml").write_text(f"data: {{format: soda-d, root: {tmp_path}, train: val, val: val}}\n")
    metrics = metrics_of(tmp_path / "c.yaml", tmp_path / "results.json", "soda-d")
    images = [
        (
            [{**o, "area": o["box"][2] * o["box"][3] * o["scale"], "crowd": False} for o in truth if o["image"] == i],
            [d for d in found if d["image"] == i],
        )
        for i in (1, 2, 3)
    ]
    for name, area in SODA_AREAS.items():
        ap, _ = naive.coco_style(images, 3, area, 100)
        _, ar = naive.coco_style(images, 3, area, 1000)
        expected = {f"AP{name}": ap, f"AR{name or '@1000'}": ar}
        if not name:
            expected |= {"AP50": naive.coco_style(images, 3, area, 100, [0.5])[0]}
        for key, value in expected.items():
            assert metrics[f"soda-d/{key}"] == pytest.approx(math.nan if value is None else value, **EXACT), key


@SETTINGS
@given(objects, detections, st.lists(st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2), max_size=2))
def test_visdrone_is_the_toolkit(
    tmp_path: Path, truth: list[dict[str, Any]], found: list[dict[str, Any]], regions: list[tuple[int, ...]]
) -> None:
    truth = [A_CAR, *truth]
    found = place(truth, found)
    write_images(tmp_path / "val" / "images")
    shutil.rmtree(tmp_path / "val" / "annotations", ignore_errors=True)
    images = []
    for number in (1, 2, 3):
        here = [o for o in truth if o["image"] == number]
        rows = [f"{','.join(map(str, o['box']))},{1 - o['ignore']},{o['label'] + 1},0,0" for o in here]
        rows += [f"{','.join(map(str, box))},0,0,0,0" for box in regions]
        rows += ["3,3,30,30,0,4,0,0"]  # others
        dets = sorted((d for d in found if d["image"] == number), key=lambda d: -d["score"])
        texts = [f"{','.join(map(str, d['box']))},{d['score']},{d['label'] + 1},-1,-1" for d in dets]
        for folder, lines in (("val/annotations", rows), ("results", texts)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{number}.txt").write_text("\n".join(lines))
        images.append((here + [{"box": box, "label": -1} for box in regions], dets))
    (tmp_path / "c.yaml").write_text(f"data: {{root: {tmp_path}, train: val, val: val, classes: [a, b, c]}}\n")
    expected = naive.visdrone(images, 3, [(HEIGHT, WIDTH)] * 3)
    metrics = metrics_of(tmp_path / "c.yaml", tmp_path / "results", "visdrone")
    assert {name: metrics[f"visdrone/{name}"] for name in expected} == pytest.approx(expected, **EXACT)


def find_about(boxes: np.ndarray, labels: np.ndarray, seed: int) -> list[tuple[list[float], int, float]]:
    """Draw detections near objects and, of their classes, anywhere, with few decimals and tied scores."""
    if not len(boxes):
        return []
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(boxes), 3 * len(boxes))
    near = boxes[chosen] + rng.normal(0, 1.2, (len(chosen), 4))
    rows = np.concatenate([near, rng.uniform(0, 40, (5, 4))]).round(1)
    rows[:, 2:] = rows[:, 2:].clip(0)
    kinds = np.concatenate([labels[chosen], rng.choice(labels, 5)]).tolist()
    return list(zip(rows.tolist(), kinds, (rng.random(len(rows)).round(2) + 0.01).tolist(), strict=True))


def test_coco_is_pycocotools_on_a_real_data_set(coco_river_people: Path, tmp_path: Path) -> None:
    source = coco_river_people / "valid" / "_annotations.coco.json"
    content = json.loads(source.read_text())
    results = []
    for image in content["images"]:
        here = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in here], dtype=float).reshape(-1, 4)
        found = find_about(boxes, np.array([a["category_id"] for a in here]), image["id"])
        results += [{"image_id": image["id"], "category_id": int(k), "bbox": box, "score": s} for box, k, s in found]
    (tmp_path / "results.json").write_text(json.dumps(results))
    for annotation in content["annotations"]:
        annotation["id"] += 1  # pycocotools takes a match with id 0 for none
    (tmp_path / "truth.json").write_text(json.dumps(content))
    config = tmp_path / "c.yaml"
    config.write_text(f"data: {{format: coco, root: {coco_river_people}, train: valid, val: valid}}\n")
    expected = compare_with_pycocotools(tmp_path / "truth.json", config, tmp_path / "results.json")
    assert 0.05 < expected["AP"] < 0.95


def test_visdrone_is_the_toolkit_on_a_real_data_set(visdrone_mini: Path, tmp_path: Path) -> None:
    source = visdrone_mini / "VisDrone2019-DET-val"
    for folder in ("val/images", "val/annotations", "results"):
        (tmp_path / folder).mkdir(parents=True)
    images, sizes = [], []
    for number, text in enumerate(sorted((source / "annotations").glob("*.txt"))[::9]):
        image = (source / "images" / text.name).with_suffix(".jpg")
        (tmp_path / "val" / "images" / image.name).symlink_to(image.resolve())
        shutil.copy(text, tmp_path / "val" / "annotations")
        rows = np.loadtxt(text, delimiter=",", usecols=range(8), ndmin=2)
        label = np.where(rows[:, 5] == 0, -1, np.where(rows[:, 5] == 11, -2, rows[:, 5] - 1)).astype(int)
        truth = [{"box": r[:4].tolist(), "label": k, "ignore": r[4] == 0} for r, k in zip(rows, label, strict=True)]
        classed = label >= 0
        found = sorted(find_about(rows[classed, :4], label[classed], number), key=lambda row: -row[2])
        lines = [f"{','.join(map(str, box))},{score},{k + 1},-1,-1" for box, k, score in found]
        (tmp_path / "results" / text.name).write_text("\n".join(lines))
        images.append((truth, [{"box": box, "label": k, "score": score} for box, k, score in found]))
        with Image.open(image) as file:
            sizes.append((file.height, file.width))
    (tmp_path / "c.yaml").write_text(f"data: {{root: {tmp_path}, train: val, val: val}}\n")
    expected = naive.visdrone(images, 10, sizes)
    metrics = metrics_of(tmp_path / "c.yaml", tmp_path / "results", "visdrone")
    assert {name: metrics[f"visdrone/{name}"] for name in expected} == pytest.approx(expected, **EXACT)
    assert 0.05 < expected["AP"] < 0.95
