"""The folder of a run, and what makes the same command continue it.

runs/demo/
  config.yaml          what the run is: the same name with another configuration is refused
  mlflow.json          its MLflow run
  epoch_0007/          checkpoints, see `pipelines.checkpoints`
  journal.jsonl        all that was reported; MLflow is told from here
  pictures/, queries/  detections beside ground truth, and where queries are, after each evaluation
  curves.png           loss and AP over the whole run
  incidents.jsonl      what interrupted it, and what that cost
  summary.json         written last: a run that has it is finished

Of a run in an object store, this machine keeps journal, pictures and claim in a folder of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from mrqm.config import Config, make_config
from mrqm.files import write_whole
from pipelines.storage import StorageError, is_uri, open_storage

FREE_KEYS = (
    "output", "keep_checkpoints", "tracking.", "data.loader_workers", "data.copies", "train.checkpoint_minutes",
    "train.resume", "train.on_divergence", "train.explosion_factor", "train.max_skipped", "scaling.",
    "evaluation.beside_training",
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
        metrics: of the best checkpoint, named as by `CocoProtocol`.
        picture: PNG of detections beside ground truth at that epoch, if there is one.
        tracking_uri: of the MLflow store.
        run_id: of the MLflow run.
        model_uri: what `mlflow.pyfunc.load_model` takes; None if MLflow did not take the model.
        registered_as: "name version N", if it was registered.
        pending: reports that MLflow did not take; they are kept, and the same command sends them.
    """

    name: str
    folder: str
    checkpoint: str
    epoch: int
    metrics: dict[str, float]
    picture: str | None
    tracking_uri: str
    run_id: str
    model_uri: str | None
    registered_as: str | None
    pending: int = 0

    @property
    def complete(self) -> bool:
        """Whether MLflow has all of the run."""
        return self.model_uri is not None and not self.pending


class RunFolder:
    """Reads and writes the folder of one run, `output`/`name`.

    Attributes:
        storage: the folder.
        path: the same on this machine; of an object store what this machine keeps of the run.

    Raises:
        StorageError: `output` is no place for runs.
    """

    def __init__(self, config: Config) -> None:
        self.storage = open_storage(config.output, config.name)
        self.path = self.storage.local or _place_beside(self.storage.url)

    @contextmanager
    def claimed(self, config: Config) -> Iterator[None]:
        """Hold the folder for this process and configuration.

        Raises:
            RunError: another process of this machine trains here, the folder is a run of another configuration, or it
                is a run and `train.resume` is `never`.
            StorageError: the folder cannot be written.
        """
        self.require_continuable(config)
        self.storage.require_writable()
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    f"run {config.name} in {self.storage.url} is being trained by another process"
                ) from error
            self.require_continuable(config)
            yield

    def begin(self, config: Config) -> None:
        """Let the folder be a run of this configuration: what was found wrong before that may be corrected."""
        if self.storage.read("config.yaml") is None:
            self.storage.write("config.yaml", config.to_yaml())

    def require_continuable(self, config: Config) -> bool:
        """Whether there is a run of this name; nothing is written.

        Raises:
            RunError: there is and it is of another configuration, or `train.resume` is `never`.
        """
        url = self.storage.url
        before = self.storage.read("config.yaml")
        if before is None:
            return False
        if config.train.resume == "never":
            raise RunError(
                f"run {config.name} exists in {url} and train.resume=never; choose another name, such as "
                f"name={config.name}-2, or remove it"
            )
        kept, asked = flatten(yaml.safe_load(before)), flatten(config.model_dump(mode="json"))
        differing = sorted(
            key
            for key in kept.keys() | asked.keys()
            if not key.startswith(FREE_KEYS) and kept.get(key, "absent") != asked.get(key, "absent")
        )
        if differing:
            lines = [f"  {key}: {kept.get(key, 'absent')} there, {asked.get(key, 'absent')} now" for key in differing]
            raise RunError(
                "\n".join([f"run {config.name} in {url} has another configuration:", *lines])
                + f"\nchoose another name, such as name={config.name}-2, or remove {url} to start afresh"
            )
        return True

    def require_space(self, needed: int, checkpoint: int) -> None:
        """Check, where that is possible, that checkpoints will have room.

        Args:
            needed: bytes that are yet to be written.
            checkpoint: bytes of one checkpoint.

        Raises:
            StorageError: they would not; the message says how much is missing.
        """
        free = self.storage.free_bytes()
        if free is not None and free < needed:
            raise StorageError(
                f"output={self.storage.url}: {_megabytes(free)} are free, and checkpoints need {_megabytes(needed)} "
                f"({_megabytes(checkpoint)} each); make room, give another folder or lower keep_checkpoints"
            )

    def read_summary(self) -> Summary | None:
        """What came of the run, if it is finished."""
        content = self.storage.read("summary.json")
        return Summary(**json.loads(content)) if content else None

    def write_summary(self, summary: Summary) -> None:
        """Mark the run as finished."""
        self._write_json("summary.json", asdict(summary))

    def read_mlflow_run(self, tracking_uri: str) -> str | None:
        """The id of the run's MLflow run at a store, if it has one there."""
        content = self.storage.read("mlflow.json")
        return json.loads(content).get(tracking_uri) if content else None

    def write_mlflow_run(self, tracking_uri: str, run_id: str) -> None:
        """Remember the run's MLflow run."""
        self._write_json("mlflow.json", {tracking_uri: run_id})

    def picture(self, epoch: int, kind: str = "pictures") -> Path:
        """Where the picture of an epoch is, or goes; `kind` is `pictures` or `queries`."""
        return self.path / kind / f"epoch_{epoch:04d}.png"

    def file_here(self, name: str) -> Path:
        """A small file of the run as one of this machine."""
        path = self.path / name
        if self.storage.local is None:
            write_whole(path, self.storage.read(name) or b"")
        return path

    def write_picture(self, epoch: int, png: bytes, kind: str = "pictures") -> Path:
        """Keep a picture."""
        path = self.picture(epoch, kind)
        write_whole(path, png)
        return path

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.storage.write(name, json.dumps(value, indent=2) + "\n")


def _place_beside(url: str) -> Path:
    """This machine's folder for a run that is kept elsewhere."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / "mrqm" / f"{url.rpartition('/')[2]}-{digest}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def with_absolute_paths(config: Config) -> Config:
    """The same configuration for processes in other folders: Ray's workers have one of their own."""
    values = config.model_dump()
    values["output"] = config.output if is_uri(config.output) else str(Path(config.output).resolve())
    if isinstance(config.data.root, Path):
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
