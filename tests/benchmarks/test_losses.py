"""The benchmark of losses: every variant is trained once, whatever ended the command before."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_config: Any, squares: Callable[..., Path]
) -> Callable[..., list[dict[str, Any]]]:
    """Run the benchmark on a tiny configuration; returns the lines of its file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    config = tiny_config(f"data.root={squares()}", "data.classes=[a, b]", "tracking.uri=none")
    (tmp_path / "tiny.yaml").write_text(config.model_dump_json())  # JSON is YAML
    out = tmp_path / "losses.jsonl"

    def run(*arguments: str) -> list[dict[str, Any]]:
        import losses

        words = ["losses.py", "-c", str(tmp_path / "tiny.yaml"), "--steps", "2", "--out", str(out), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        losses.main()
        return [json.loads(line) for line in out.read_text().splitlines()]

    return run


def test_missing_variants_are_trained_and_the_others_kept(
    command: Callable[..., list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    vary = ["--vary", "loss.classification=quality_focal,matchability_aware", "--seeds", "3"]
    (first,) = command(*vary, "--runs", "1")
    rows = command(*vary)
    assert rows[0] == first
    assert [row["variant"] for row in rows] == [
        ["loss.classification=quality_focal"],
        ["loss.classification=matchability_aware"],
    ]
    assert [(row["seed"], row["steps"]) for row in rows] == [(3, 2), (3, 2)]
    assert command(*vary) == rows
    table = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= 80
    assert any("quality_focal" in line and "±" in line for line in table)


def test_a_variant_that_the_configuration_refuses_ends_before_anything_is_trained(
    command: Callable[..., list[dict[str, Any]]],
) -> None:
    with pytest.raises(SystemExit, match=r"loss\.classification.*softmax"):
        command("--vary", "loss.classification=quality_focal,softmax")
