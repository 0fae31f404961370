"""Resolution of `model.init` before a training starts: a detector on this machine, at a URI or in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mrqm.checkpoint.ancestor import SUFFIX, find_weights, read_ancestor
from mrqm.checkpoint.files import WEIGHTS
from mrqm.checkpoint.initialization import InitReport, build_initial_model
from mrqm.config import Config, ConfigError, TrackingConfig
from mrqm.data.formats.digest import file_digest
from mrqm.errors import UserError
from pipelines.registry.client import open_registry
from pipelines.registry.lineage import WEIGHTS_DIGEST
from pipelines.registry.model_uri import LOGGED, checkpoint_folder
from pipelines.registry.model_version import Version
from pipelines.storage.ancestors import AncestorRecord, kept_weights, read_record
from pipelines.storage.filesystem import MLFLOW_SCHEMES, Storage, StorageError, download_file, is_uri


@dataclass(frozen=True)
class AncestorOnDisk:
    """Detector to start from, on this machine.

    Attributes:
        weights: file of weights.
        record: origin of the weights.
    """

    weights: Path
    record: AncestorRecord

    def check(self, config: Config, classes: Sequence[str]) -> InitReport:
        """Check that the weights can start a training.

        Args:
            config: configuration of the training.
            classes: class names in label order.

        Returns:
            Report of what would be loaded and what would not.

        Raises:
            ConfigError: the weights cannot be used.
        """
        model = config.model.model_copy(update={"init": self.record.source})
        _, report = build_initial_model(config.model_copy(update={"model": model}), classes, self.weights)
        assert report is not None, "there is a detector to start from"
        return report

    def describe(self) -> str:
        """Describe the origin in one line."""
        version = self.record.version
        known = "" if version is None or self.record.source == f"models:/{version}" else f" ({version})"
        return f"{self.record.source}{known}"


@contextmanager
def ancestor_on_disk(source: str | None, storage: Storage, tracking: TrackingConfig) -> Iterator[AncestorOnDisk | None]:
    """Provide the detector of `model.init` while the context is open: the run's own copy if there is one.

    Args:
        source: value of `model.init`.
        storage: folder of the run or sweep.
        tracking: settings that name the MLflow store.

    Yields:
        The detector; None without `model.init`.

    Raises:
        ConfigError: there is no such detector, or it cannot be read.
    """
    if source is None:
        yield None
    elif record := read_record(storage, source):
        with kept_weights(storage, source) as weights:
            assert weights is not None, "the copy has a record"
            yield AncestorOnDisk(weights, record)
    else:
        with ExitStack() as fetched:
            folder = Path(fetched.enter_context(TemporaryDirectory(prefix="mrqm-")))
            try:
                found = _inspect(source, *fetched.enter_context(_fetched(source, tracking, folder)))
            except UserError as error:
                raise ConfigError(f"model.init={source} cannot be used: {error}") from error
            yield found


@contextmanager
def _fetched(source: str, tracking: TrackingConfig, folder: Path) -> Iterator[tuple[Path, Version | None]]:
    """Provide the file of weights, and the registered version that it is of."""
    if is_uri(source) and source.partition("?")[0].endswith(SUFFIX):
        yield _download(source, folder / WEIGHTS), None
        return
    if not (is_uri(source) or source.startswith(MLFLOW_SCHEMES)):
        yield find_weights(source), None
        return
    version = _find_version(source, tracking)
    pinned = f"models:/{version.name}/{version.number}" if version else source
    with checkpoint_folder(pinned, tracking) as checkpoint:
        yield checkpoint / WEIGHTS, version


def _find_version(source: str, tracking: TrackingConfig) -> Version | None:
    """Find the version that a URI of the registry means now; aliases may move."""
    if not source.startswith("models:/") or LOGGED.match(source):
        return None
    with open_registry(tracking) as registry:
        return registry.find(source)


def _download(uri: str, target: Path) -> Path:
    try:
        download_file(uri, target)
    except (OSError, ValueError, ImportError) as error:
        raise StorageError(f"{uri}: cannot be read: {error}; set AWS_ENDPOINT_URL and credentials") from error
    return target


def _inspect(source: str, weights: Path, version: Version | None) -> AncestorOnDisk:
    """Read the weights once, so that a file that is no detector is refused here."""
    if version is not None and not weights.is_file():
        raise StorageError(f"{version} has no {WEIGHTS}; choose another version")
    ancestor, digest = read_ancestor(weights), file_digest(weights)
    registered = version.tags.get(WEIGHTS_DIGEST, digest) if version else digest
    if registered != digest:
        raise StorageError(f"the weights of {version} are not the registered ones: SHA-256 {digest}, not {registered}")
    name = f"{version.name}/{version.number}" if version else None
    return AncestorOnDisk(weights, AncestorRecord(source=source, version=name, sha256=digest, classes=ancestor.classes))
