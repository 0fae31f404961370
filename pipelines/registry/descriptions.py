"""Descriptions of registered models and versions."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.console.markdown import metrics_tables
from pipelines.registry.lineage import VIEW
from pipelines.registry.model_version import DATA, DIGEST_DIGITS

ABOUT = (
    "Detectors of small objects (MRQM). `mrqm registry` compares versions and promotes them; "
    "`mrqm predict models:/NAME@ALIAS` and `mlflow.pyfunc.load_model` use them."
)


def describe_version(tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Describe a version and the conditions of its metrics.

    Args:
        tags: tags of the version.
        metrics: metrics by name, such as `coco/AP`.

    Returns:
        Text in Markdown.
    """
    parts = [f"Trained by run {tags['run.name']}."]
    conditions = {"data": tags.get(DATA, "")[:DIGEST_DIGITS], "view": tags.get(VIEW, "")}
    known = [f"{name} `{value}`" for name, value in conditions.items() if value]
    if known:
        parts.append(f"Measured on {', '.join(known)}; metrics under other conditions are not comparable.")
    return "\n\n".join([*parts, metrics_tables(metrics)])
