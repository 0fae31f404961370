import pytest

from pipelines.registry.smoke_test import find_fault

ANSWER = {"boxes": [[0.0, 0, 1, 1]], "scores": [0.5], "labels": [0], "class_names": ["a"]}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ([ANSWER], None),
        ([{**ANSWER, "boxes": [], "scores": []}], None),
        ([], "list of one"),
        ([{"boxes": []}], "scores, labels, class_names missing"),
        ([{**ANSWER, "scores": []}], "1 boxes, 0 scores"),
        ([{**ANSWER, "scores": [float("nan")]}], "not finite"),
    ],
)
def test_an_answer_has_to_be_detections(answer: object, fault: str | None) -> None:
    found = find_fault(answer)
    assert found is None if fault is None else fault in (found or "")
