"""Requests for evaluations, as the command line makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from mrqm.config import Config
from mrqm.errors import UserError
from mrqm.inference.dataset_inference import View
from mrqm.structures.metric import PROTOCOLS, ProtocolName


class EvaluationError(UserError):
    """A request for an evaluation that cannot be carried out."""


@dataclass(frozen=True)
class Request:
    """Request for an evaluation of a model or of predictions.

    Attributes:
        model: a checkpoint's folder or an MLflow model's URI; None to evaluate predictions.
        predictions: a COCO result file, a folder of VisDrone or YOLO texts, or the folder that `mrqm predict` wrote;
            None to evaluate a model.
        config: YAML file whose `data` and `evaluation` replace the checkpoint's; required for predictions.
        overrides: `key=value` settings that take precedence over both.
        view: view of the images for a model; None for that of training.
        protocols: names of the evaluation protocols.
        device: device, such as `cuda:1`; None for the GPU if there is one.
        track: true to log the result to MLflow, which must then answer before the evaluation begins.
        sizes: list of the images' sizes, for predictions where neither annotations nor images have them.
    """

    model: str | None = None
    predictions: Path | None = None
    config: Path | None = None
    overrides: Sequence[str] = ()
    view: str | None = None
    protocols: Sequence[str] = ("coco",)
    device: str | None = None
    track: bool = False
    sizes: Path | None = None


def check_protocol(name: str) -> ProtocolName:
    """Return the name of a protocol; raise `EvaluationError` if there is none of this name."""
    if name not in PROTOCOLS:
        raise EvaluationError(f"--protocol {name}: choose one of {', '.join(PROTOCOLS)}")
    return name


def check_view(view: str | None, config: Config) -> View:
    """Choose the view of the images.

    Args:
        view: requested view; None for that of training.
        config: configuration of the model.

    Returns:
        The view.

    Raises:
        EvaluationError: there is no such view, or it needs tiles that the configuration does not have.
    """
    if view is None:
        return "tiles" if config.data.tile else "full"
    if view not in get_args(View):
        raise EvaluationError(f"--view {view}: choose one of {', '.join(get_args(View))}")
    if view != "full" and config.data.tile is None:
        raise EvaluationError(f"--view {view}: needs tiles, but data.tile is null; set data.tile.size")
    return view  # type: ignore[return-value]
