"""CocoEvaluator against plain pycocotools on json files, and the rules that pycocotools leaves to its caller."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch import distributed as dist

from mrqm.data.records import IGNORED_REGION
from mrqm.evaluation import CocoEvaluator

from ..ranks import run_ranks

CLASSES = ("car", "bus", "person")
BINS = {"tiny": (0.0, 256.0), "small": (256.0, 1024.0), "rest": (1024.0, 1e10)}
HEIGHT, WIDTH = 540, 961
MAX_DETECTIONS = 60
Item = tuple[dict[str, Tensor], dict[str, Tensor]]


def make_item(
    image_id: int,
    objects: list[list[float]],
    labels: list[int],
    *,
    found: list[list[float]] | None = None,
    found_labels: list[int] | None = None,
    scores: list[float] | None = None,
    ignored: list[list[float]] | None = None,
    ignored_labels: list[int] | None = None,
) -> Item:
    """One image from xywh boxes in native px; found=None means that the objects themselves are found."""
    found = objects if found is None else found
    found_labels = labels if found_labels is None else found_labels
    scores = scores or [1 - i / 1000 for i in range(len(found))]
    detections = torch.tensor(found).reshape(-1, 4)
    detections[:, 2:] += detections[:, :2]
    return (
        {"boxes": detections, "scores": torch.tensor(scores), "labels": torch.tensor(found_labels, dtype=torch.int64)},
        {
            "boxes": normalised(objects),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "ignore_boxes": normalised(ignored or []),
            "ignore_labels": torch.tensor(ignored_labels or [IGNORED_REGION] * len(ignored or []), dtype=torch.int64),
            "image_id": torch.tensor(image_id),
            "orig_size": torch.tensor([HEIGHT, WIDTH]),
        },
    )


def normalised(boxes: list[list[float]]) -> Tensor:
    """Xywh px → float32 cxcywh, as the data set gives them."""
    x, y, w, h = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4).unbind(1)
    return torch.stack([(x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT], dim=1)


def score(items: list[Item], max_detections: int = MAX_DETECTIONS) -> dict[str, float]:
    evaluator = CocoEvaluator(CLASSES, BINS, max_detections)
    for detections, target in items:
        evaluator.update([detections], [target])
    return evaluator.compute()


def random_scene(seed: int, images: int = 12) -> tuple[list[Item], dict[str, Any], list[dict[str, Any]]]:
    """The same images as items and as COCO json: integer boxes, crowds, tied scores, an image without objects."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in rng.permutation(1000)[:images].tolist():
        count = 0 if not items else int(rng.integers(1, 25))
        boxes = np.concatenate([rng.integers(0, 400, (count, 2)), rng.integers(4, 45, (count, 2))], axis=1)
        boxes[: count // 4, 2:] = 32  # exactly on the border of two bins
        labels = rng.integers(0, 2, count)  # no person anywhere
        ignored = np.concatenate([rng.integers(0, 300, (2, 2)), rng.integers(80, 200, (2, 2))], axis=1)
        near = boxes[rng.integers(0, max(count, 1), 6 * count)] if count else boxes
        stray = np.concatenate([rng.uniform(0, 400, (30, 2)), rng.uniform(4, 45, (30, 2))], axis=1)
        found = np.concatenate([near + rng.normal(0, 2, near.shape), stray]).astype(np.float32).round(2)
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        found_labels = rng.integers(0, 3, len(found))
        scores = np.sort(rng.integers(0, 200, len(found)) / 256)[::-1]
        item = make_item(
            image_id,
            boxes.tolist(),
            labels.tolist(),
            found=found.tolist(),
            found_labels=found_labels.tolist(),
            scores=scores.tolist(),
            ignored=ignored.tolist(),
        )
        items.append(item)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            annotations.append({"image_id": image_id, "category_id": label + 1, "bbox": box, "iscrowd": 0})
        for box in ignored.tolist():
            annotations += [{"image_id": image_id, "category_id": k, "bbox": box, "iscrowd": 1} for k in (1, 2, 3)]
        for box, label, confidence in zip(found.tolist(), found_labels.tolist(), scores.tolist(), strict=True):
            results.append({"image_id": image_id, "category_id": label + 1, "bbox": box, "score": confidence})
    for number, annotation in enumerate(annotations, start=1):
        annotation |= {"id": number, "area": annotation["bbox"][2] * annotation["bbox"][3]}
    dataset = {
        "images": [{"id": int(target["image_id"]), "height": HEIGHT, "width": WIDTH} for _, target in items],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)],
        "annotations": annotations,
    }
    return items, dataset, results


def plain_pycocotools(folder: Path, dataset: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, float]:
    (folder / "truth.json").write_text(json.dumps(dataset))
    (folder / "results.json").write_text(json.dumps(results))
    truth = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
    evaluation.params.maxDets = [1, 10, MAX_DETECTIONS]
    evaluation.params.areaRng = [[0, 1e10], *(list(area) for area in BINS.values())]
    evaluation.params.areaRngLbl = ["all", *BINS]
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]

    def mean(values: np.ndarray) -> float:
        return float(np.mean(values[values > -1])) if (values > -1).any() else math.nan

    return {
        "AP": mean(precision[:, :, :, 0, 2]),
        "AP50": mean(precision[0, :, :, 0, 2]),
        "AP75": mean(precision[5, :, :, 0, 2]),
        **{f"AP_{name}": mean(precision[:, :, :, 1 + i, 2]) for i, name in enumerate(BINS)},
        "AR": mean(recall[:, :, 0, 2]),
        **{f"AP/{name}": mean(precision[:, :, i, 0, 2]) for i, name in enumerate(CLASSES)},
    }


@pytest.mark.parametrize("seed", range(5))
def test_equals_plain_pycocotools(seed: int, tmp_path: Path) -> None:
    items, dataset, results = random_scene(seed)
    expected = plain_pycocotools(tmp_path, dataset, results)
    assert 0.05 < expected["AP"] < 0.95
    assert score(items) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_order_of_images_changes_nothing() -> None:
    items, _, _ = random_scene(0)
    assert repr(score(items)) == repr(score(items[::-1]))


def test_batches_equal_single_images() -> None:
    items, _, _ = random_scene(0)
    evaluator = CocoEvaluator(CLASSES, BINS, MAX_DETECTIONS)
    evaluator.update([detections for detections, _ in items], [target for _, target in items])
    assert repr(evaluator.compute()) == repr(score(items))


def test_perfect_detections_score_one() -> None:
    metrics = score([make_item(7, [[10, 10, 5, 6], [100, 50, 20, 20], [300, 20, 50, 90]], [0, 1, 2])])
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))


def test_keys() -> None:
    metrics = score([make_item(7, [[10, 10, 5, 6]], [0])])
    bins, classes = [f"AP_{name}" for name in BINS], [f"AP/{name}" for name in CLASSES]
    assert list(metrics) == ["AP", "AP50", "AP75", *bins, "AR", *classes]


def test_without_detections_is_zero() -> None:
    metrics = score([make_item(7, [[10, 10, 5, 6]], [0], found=[], found_labels=[])])
    assert metrics["AP"] == metrics["AP50"] == metrics["AR"] == metrics["AP_tiny"] == metrics["AP/car"] == 0


def test_classes_and_bins_without_objects_are_nan() -> None:
    metrics = score([make_item(7, [[10, 10, 5, 6]], [0])])
    assert math.isnan(metrics["AP_rest"]) and math.isnan(metrics["AP/bus"])
    assert metrics["AP"] == pytest.approx(1)  # the mean is over what exists


def test_nothing_at_all_is_nan() -> None:
    assert all(math.isnan(value) for value in score([]).values())


def test_false_alarms_on_an_image_without_objects_cost() -> None:
    found = make_item(1, [[10, 10, 20, 20]], [0], scores=[0.5])
    empty = make_item(2, [], [], found=[[10, 10, 20, 20]], found_labels=[0], scores=[0.9])
    assert score([found, empty])["AP"] == pytest.approx(0.5)


def test_image_without_objects_and_detections_changes_nothing() -> None:
    found = make_item(1, [[10, 10, 20, 20]], [0])
    assert repr(score([found, make_item(2, [], [])])) == repr(score([found]))


def test_detections_inside_an_ignored_region_cost_nothing() -> None:
    strays = [[200 + 12 * i, 200, 10, 10] for i in range(8)]
    item = make_item(
        1,
        [[10, 10, 20, 20]],
        [0],
        found=[*strays, [10, 10, 20, 20]],
        found_labels=[0] * 9,
        ignored=[[190, 190, 150, 50]],
    )
    assert score([item])["AP"] == pytest.approx(1)


def test_detections_beside_an_ignored_region_cost() -> None:
    item = make_item(
        1,
        [[10, 10, 20, 20]],
        [0],
        found=[[400, 200, 10, 10], [10, 10, 20, 20]],
        found_labels=[0, 0],
        ignored=[[190, 190, 150, 50]],
    )
    assert score([item])["AP"] == pytest.approx(0.5)


def test_an_ignored_region_is_not_an_object_to_find() -> None:
    assert math.isnan(score([make_item(1, [], [], ignored=[[190, 190, 150, 50]])])["AP"])


def test_a_crowd_of_one_class_excuses_no_detection_of_another() -> None:
    crowd = {"ignored": [[190, 190, 150, 50]], "ignored_labels": [0]}
    car, inside = [10, 10, 20, 20], [200, 200, 20, 20]
    of_its_class = make_item(1, [car], [0], found=[inside, car], found_labels=[0, 0], **crowd)
    of_another = make_item(1, [car], [1], found=[inside, car], found_labels=[1, 1], **crowd)
    assert score([of_its_class])["AP"] == pytest.approx(1)
    assert score([of_another])["AP"] == pytest.approx(0.5)


@pytest.mark.parametrize(("before", "expected"), [(499, 1 / 500), (500, 0.0)])
def test_detections_after_the_limit_are_not_counted(before: int, expected: float) -> None:
    strays = [[400 + i % 50, 200 + i % 40, 9, 9] for i in range(before)]
    item = make_item(1, [[10, 10, 20, 20]], [0], found=[*strays, [10, 10, 20, 20]], found_labels=[0] * (before + 1))
    assert score([item], max_detections=500)["AP"] == pytest.approx(expected)


def test_objects_outside_a_bin_do_not_count_in_it() -> None:
    objects = [[10, 10, 10, 10], [100, 100, 20, 20]]  # 100 and 400 px²
    metrics = score([make_item(1, objects, [0, 0], found=objects[:1], found_labels=[0])])
    assert metrics["AP_tiny"] == pytest.approx(1)
    assert metrics["AP_small"] == 0


def test_area_is_that_of_the_native_image() -> None:
    detections, target = make_item(1, [[10, 10, 30, 30]], [0])  # 900 px²: small
    target = {**target, "orig_size": torch.tensor([HEIGHT * 2, WIDTH * 2])}  # now 3600 px²
    metrics = score([({**detections, "boxes": detections["boxes"] * 2}, target)])
    assert metrics["AP_rest"] == pytest.approx(1) and math.isnan(metrics["AP_small"])


def test_an_object_on_the_border_counts_in_both_bins() -> None:
    for i in range(60):  # normalised positions and sizes round differently
        metrics = score([make_item(i, [[13 * i + 1, 7 * i + 3, 2 ** (1 + i % 8), 2 ** (9 - i % 8)]], [0])])
        assert metrics["AP_small"] == metrics["AP_rest"] == pytest.approx(1)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    score([make_item(1, [[10, 10, 20, 20]], [0])])
    assert capsys.readouterr().out == ""


def test_a_repeated_image_is_refused() -> None:
    evaluator = CocoEvaluator(CLASSES, BINS, MAX_DETECTIONS)
    detections, target = make_item(5, [[10, 10, 20, 20]], [0])
    evaluator.update([detections], [target])
    with pytest.raises(ValueError, match="image_id 5 "):
        evaluator.update([detections], [target])


def work(folder: Path) -> None:
    """One of two processes: scores its share three ways and leaves what it got in the folder."""
    rank = dist.get_rank()
    items, _, _ = random_scene(3)
    answers = {
        "shared": repr(score(items[rank::2])),
        "one rank idle": repr(score(items if rank == 0 else [])),
    }
    try:
        score(items)
    except ValueError as error:
        answers["same images on both"] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(answers))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(work, 2, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", ["shared", "one rank idle"])
def test_two_ranks_equal_one(case: str, two_ranks: list[dict[str, str]]) -> None:
    alone = repr(score(random_scene(3)[0]))
    assert [answers[case] for answers in two_ranks] == [alone, alone]


def test_an_image_on_two_ranks_is_refused_by_both(two_ranks: list[dict[str, str]]) -> None:
    assert all("evaluated twice" in answers["same images on both"] for answers in two_ranks)
