"""The folder of a run, and what makes the same command continue it.

runs/demo/
  config.yaml          what the run is: the same name with another configuration is refused
  mlflow.json          its MLflow run
  epoch_0007/          checkpoints, kept and counted by Ray Train
  pictures/            detections beside ground truth after each evaluation
  summary.json         written last: a run that has it is finished
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from mrqm.config import Config, make_config

FREE_KEYS = (
    "output", "keep_checkpoints", "tracking.", "data.loader_workers", "train.checkpoint_minutes",
    "train.resume", "train.on_divergence", "train.max_skipped",
)  # fmt: skip
"""Keys, or beginnings of keys, that may differ when a run is continued."""


class RunError(ValueError):
    """A run that cannot begin or go on under its name."""


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes:
        name: of the run.
        folder: of the run.
        checkpoint: the best checkpoint's folder.
        epoch: of the best checkpoint.
        metrics: of the best checkpoint, named as by `CocoEvaluator`.
        picture: PNG of detections beside ground truth at that epoch, if there is one.
        tracking_uri: of the MLflow store.
        run_id: of the MLflow run.
        model_uri: what `mlflow.pyfunc.load_model` takes.
        registered_as: "name version N", if it was registered.
    """

    name: str
    folder: str
    checkpoint: str
    epoch: int
    metrics: dict[str, float]
    picture: str | None
    tracking_uri: str
    run_id: str
    model_uri: str
    registered_as: str | None


class RunFolder:
    """Reads and writes the folder of one run, `output`/`name`."""

    def __init__(self, config: Config) -> None:
        self.path = config.output / config.name

    @contextmanager
    def claimed(self, config: Config) -> Iterator[None]:
        """Hold the folder for this process and configuration.

        Raises:
            RunError: another process trains here, the folder is a run of another configuration, or it is a run and
                `train.resume` is `never`.
        """
        if config.train.resume == "never" and (self.path / "config.yaml").is_file():
            raise RunError(
                f"run {self.path.name} exists in {self.path} and train.resume=never; "
                f"choose another name, such as name={self.path.name}-2, or remove it"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"run {self.path.name} in {self.path} is being trained by another process") from error
            self._require_same(config)
            yield

    def _require_same(self, config: Config) -> None:
        path = self.path / "config.yaml"
        if not path.is_file():
            path.write_text(config.to_yaml())
            return
        kept, asked = flatten(yaml.safe_load(path.read_text())), flatten(config.model_dump(mode="json"))
        differing = sorted(
            key
            for key in kept.keys() | asked.keys()
            if not key.startswith(FREE_KEYS) and kept.get(key, "absent") != asked.get(key, "absent")
        )
        if differing:
            lines = [f"  {key}: {kept.get(key, 'absent')} there, {asked.get(key, 'absent')} now" for key in differing]
            raise RunError(
                "\n".join([f"run {self.path.name} in {self.path} has another configuration:", *lines])
                + f"\nchoose another name, such as name={self.path.name}-2, or remove {self.path} to start afresh"
            )

    def read_summary(self) -> Summary | None:
        """What came of the run, if it is finished."""
        path = self.path / "summary.json"
        return Summary(**json.loads(path.read_text())) if path.is_file() else None

    def write_summary(self, summary: Summary) -> None:
        """Mark the run as finished."""
        self._write_json("summary.json", asdict(summary))

    def read_mlflow_run(self, tracking_uri: str) -> str | None:
        """The id of the run's MLflow run at a store, if it has one there."""
        path = self.path / "mlflow.json"
        return json.loads(path.read_text()).get(tracking_uri) if path.is_file() else None

    def write_mlflow_run(self, tracking_uri: str, run_id: str) -> None:
        """Remember the run's MLflow run."""
        self._write_json("mlflow.json", {tracking_uri: run_id})

    def picture(self, epoch: int) -> Path:
        """Where the picture of an epoch is, or goes."""
        return self.path / "pictures" / f"epoch_{epoch:04d}.png"

    def write_picture(self, epoch: int, png: bytes) -> Path:
        """Keep a picture."""
        path = self.picture(epoch)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        return path

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        unfinished = self.path / f".{name}"
        unfinished.write_text(json.dumps(value, indent=2) + "\n")
        unfinished.replace(self.path / name)  # all or nothing, whenever the process ends


def with_absolute_paths(config: Config) -> Config:
    """The same configuration for processes in other folders: Ray's workers have one of their own."""
    values = config.model_dump()
    values["output"] = config.output.resolve()
    values["data"]["root"] = config.data.root.resolve()
    weights = config.model.backbone.weights
    if weights not in ("none", "hub"):
        values["model"]["backbone"]["weights"] = str(Path(weights).resolve())
    if config.train.resume not in ("auto", "never"):
        values["train"]["resume"] = str(Path(config.train.resume).resolve())
    return make_config(values)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
