"""The descriptions of runs and versions on MLflow's pages."""

from pipelines.registry.descriptions import describe_version

TAGS = {"run.name": "flight-7", "data.digest": "ab12" * 16, "evaluation.view": "full"}


def test_a_version_begins_with_its_run_in_plain_text() -> None:
    """Lists of versions show the first line as plain text."""
    assert describe_version(TAGS, {}).splitlines()[0] == "Trained by run flight-7."


def test_columns_have_space_between_them() -> None:
    """MLflow renders `| AP50 | 0.520 |` as AP500.520, and strips plain spaces."""
    rows = [
        line for line in describe_version(TAGS, {"coco/AP50": 0.52, "coco/AP/car": 0.4}).splitlines() if "|" in line
    ]
    assert rows[0].startswith("| coco&emsp; |")
    assert rows[2] == "| AP50&emsp; | 0.520&emsp; | car&emsp; | 0.400&emsp; |"
