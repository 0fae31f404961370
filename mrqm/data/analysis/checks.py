"""Preflight checks of a data set for `mrqm plan`, beyond its being readable."""

from __future__ import annotations

from mrqm.check import Check
from mrqm.config import Config
from mrqm.data.analysis.statistics import SplitReport, describe_split
from mrqm.data.loading.dataset import DetectionDataset
from mrqm.data.loading.loader import build_loader
from mrqm.structures.annotations import DataError

NAMED = 5
"""Greatest number of classes that a finding names."""


def check_split(config: Config, split: str, data: DetectionDataset) -> list[Check]:
    """Check the contents of one split for problems in training or evaluation.

    Args:
        config: configuration of the training.
        split: `train` or `val`.
        data: data of the split.

    Returns:
        A check with the split's contents, and one for each kind of problem.
    """
    report = describe_split(data.annotations, [str(path) for path in data.annotations.unreadable], "", 0)
    per_image = report.objects_per_image
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in data.describe().items())
    finding = (
        f"{counts}; objects per image: median {per_image['median']:.0f}, most {per_image['most']:.0f}; "
        f"{report.share_under[32]:.0%} under 32 px"
    )
    name = f"data {split}"
    checks = [_check_size(config, name, data, finding) if split == "train" else Check(name, "ok", finding)]
    return [
        *checks,
        *_check_repairs(config, name, data, report),
        *_check_classes(name, report),
        *_check_capacity(config, name, data),
    ]


def _check_size(config: Config, name: str, data: DetectionDataset, finding: str) -> Check:
    try:
        build_loader(config, data, training=True)
    except DataError as error:
        return Check.refused(name, error)
    return Check(name, "ok", finding)


def _check_repairs(config: Config, name: str, data: DetectionDataset, report: SplitReport) -> list[Check]:
    found = data.annotations.repairs.summary()
    if unreadable := report.unreadable:
        images = f"{len(unreadable)} {'image does' if len(unreadable) == 1 else 'images do'} not decode"
        found = f"{found}, {images}" if found else images
    if not found:
        return []
    remedy = (
        f"they are left out or repaired; `mrqm prepare {config.data.format} {config.data.folder} --check` lists them"
    )
    return [Check(f"{name} repairs", "warning", found, remedy)]


def _check_classes(name: str, report: SplitReport) -> list[Check]:
    absent = [key for key, count in report.objects.items() if not count]
    if not absent:
        return []
    shown = ", ".join(absent[:NAMED]) + (" …" if len(absent) > NAMED else "")
    consequence = "never learned" if name.endswith("train") else "without an AP"
    remedy = "check data.classes and the annotations, or leave these classes out"
    return [Check(f"{name} classes", "warning", f"no object of {shown} ({consequence})", remedy)]


def _check_capacity(config: Config, name: str, data: DetectionDataset) -> list[Check]:
    """Check that the model has enough queries for all objects of an item."""
    most = data.most_objects
    if most <= config.model.num_queries:
        return []
    return [
        Check(
            f"{name} objects",
            "warning",
            f"up to {most:,} objects in one image, more than model.num_queries={config.model.num_queries} can detect",
            "raise it, or cut the images with data.tile",
        )
    ]
