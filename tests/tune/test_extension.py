from pathlib import Path
from typing import Any

import pytest

from tune.extension import keep_space
from tune.space import SpaceError, make_space

BASE: dict[str, Any] = {
    "name": "s",
    "parameters": {"optim.lr": {"loguniform": [1e-4, 1e-2]}, "train.seed": {"int": [1, 4]}},
    "budget": {"trials": 3},
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"budget": {"trials": 9, "hours": 2}},
        {"parameters": {"optim.lr": {"loguniform": [1e-5, 1]}, "train.seed": {"int": [0, 4]}}},
        {"about": "more words"},
    ],
)
def test_what_extends_a_space_is_allowed(tmp_path: Path, change: dict[str, Any]) -> None:
    keep_space(tmp_path, make_space(BASE))
    keep_space(tmp_path, make_space(BASE | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": BASE["parameters"] | {"optim.lr": {"loguniform": [1e-3, 1e-2]}}}, r"0\.0001 … 0\.01 log there"),
        ({"parameters": {"optim.lr": {"loguniform": [1e-4, 1e-2]}}}, r"parameters\.train\.seed: only there"),
        ({"objective": "coco/AP50"}, "objective: .* there, .*AP50.* now"),
        ({"search": {"seed": 1}}, "search: .*'seed': 0.* there"),
        ({"fixed": {"train.epochs": 3}}, "fixed:"),
    ],
)
def test_what_changes_a_space_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    keep_space(tmp_path, make_space(BASE))
    with pytest.raises(SpaceError, match=message):
        keep_space(tmp_path, make_space(BASE | change))
    keep_space(tmp_path, make_space(BASE))
