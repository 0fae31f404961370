"""Keys, values and tags of metrics."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from mrqm.structures.metric import Metric, by_key, group_by_protocol, is_evaluated, read_metrics, select_protocol


@pytest.mark.parametrize(
    ("key", "protocol", "name", "class_name"),
    [
        ("coco/AP", "coco", "AP", None),
        ("soda-d/AR@100", "soda-d", "AR@100", None),
        ("coco/AP/awning-tricycle", "coco", "AP/awning-tricycle", "awning-tricycle"),
        ("coco/AP/on/off road", "coco", "AP/on/off road", "on/off road"),
        ("coco/AP/", "coco", "AP/", ""),
        ("train/loss_giou", "train", "loss_giou", None),
        ("epoch", "", "epoch", None),
    ],
)
def test_a_key_tells_protocol_name_and_class(key: str, protocol: str, name: str, class_name: str | None) -> None:
    metric = Metric.parse(key, 0.5)
    assert (metric.protocol, metric.name, metric.class_name) == (protocol, name, class_name)
    assert metric.key == key


def test_the_text_of_any_value_reads_back_unchanged() -> None:
    values = [*np.random.default_rng(0).random(2000).astype(np.float32).tolist(), 0.0, 1.0, 1e-300, 1 / 3]
    for value in values:
        read = Metric.parse_tag("coco/AP", Metric("coco", "AP", value).text)
        assert read == Metric("coco", "AP", value)


def test_the_text_of_a_numpy_value_is_that_of_its_number() -> None:
    assert Metric("coco", "AP", np.float64(0.25)).text == "0.25"


@pytest.mark.parametrize(("text", "value"), [("0.3100", 0.31), ("nan", None), ("1", 1.0)])
def test_tags_of_fewer_digits_are_read(text: str, value: float | None) -> None:
    metric = Metric.parse_tag("coco/AP", text)
    assert metric is not None
    assert metric.is_known == (value is not None)
    assert value is None or metric.value == value


@pytest.mark.parametrize("text", ["", "see the note", "inf", "-inf", "0,31"])
def test_a_tag_that_holds_no_number_is_no_metric(text: str) -> None:
    assert Metric.parse_tag("coco/AP", text) is None


def test_gains_are_differences_of_what_is_written() -> None:
    gain = Metric("coco", "AP", 0.57).gain_over(Metric("coco", "AP", 0.56))
    assert gain == Decimal("0.01") and 0.57 - 0.56 < 0.01


@pytest.mark.parametrize("other", [Metric("visdrone", "AP", 0.5), Metric("coco", "AP50", 0.5)])
def test_metrics_of_different_protocols_or_names_are_not_compared(other: Metric) -> None:
    with pytest.raises(ValueError, match=f"coco/AP and {other.key} are not comparable"):
        Metric("coco", "AP", 0.5).gain_over(other)


def test_protocols_whose_names_begin_alike_are_kept_apart() -> None:
    values = {"coco/AP": 0.3, "coco-drop-ignored/AP": 0.4, "coco/AP/a": math.nan, "train/loss": 2.0, "epoch": 1.0}
    assert by_key(read_metrics({"coco/AP": 0.3})) == {"coco/AP": 0.3}
    assert list(group_by_protocol(values)) == ["coco", "coco-drop-ignored", "train", ""]
    assert [metric.name for metric in group_by_protocol(values)["coco"]] == ["AP", "AP/a"]
    assert select_protocol(values, "coco-drop-ignored") == {"coco-drop-ignored/AP": 0.4}
    assert select_protocol(values, "visdrone") == {}
    assert [key for key in values if is_evaluated(key)] == ["coco/AP", "coco-drop-ignored/AP", "coco/AP/a"]
