"""The identity of a run or a sweep: a command resumes it only with the same fingerprint.

A fingerprint is written to `fingerprint.json` when a run or sweep begins, and compared whenever it is resumed. It is
made of content, not of paths: the digests of images and annotations, and of the file of pretrained weights. So a moved
folder can be resumed, and a run with edited annotations cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mrqm.config import Config, Role, fill_defaults, has_role, keys_with
from mrqm.config.dotted import flatten
from mrqm.data import DetectionDataset
from mrqm.data.formats.digest import DIGEST_VERSION, data_digest, file_digest
from mrqm.evaluation import build_protocol
from mrqm.redaction import redact
from mrqm.structures.annotations import DataError
from mrqm.structures.metric import VALIDATION, protocol_tag
from pipelines.storage.ancestors import AncestorRecord
from pipelines.storage.run_dir import RunError, RunFolder

FILE = "fingerprint.json"
WEIGHTS = "model.backbone.weights"
"""Key whose value is a file, compared by its digest."""
INIT = "model.init"
"""Key whose value names a detector, compared by the digest of its weights."""
SHOWN_DIGITS = 12


class Fingerprint(BaseModel):
    """The identity of a training; `tune.state.fingerprint` adds the space of a sweep.

    Attributes:
        kind: "run" or "sweep".
        mrqm: version of mrqm that wrote it; None for runs that began before fingerprints were written.
        settings: resolved configuration, nested, without the output location; None if unknown.
        protocol: version of the validation protocol; None if unknown.
        digest_version: version of the digest algorithm.
        content: digests by `data.train`, `data.val`, `model.backbone.weights` and `model.init`, as far as these were
            read.
        counts: numbers of images and objects, by `data.train` and `data.val`.
    """

    model_config = ConfigDict(frozen=True)
    KIND: ClassVar[str] = "run"

    kind: Literal["run", "sweep"] = "run"
    mrqm: str | None
    settings: dict[str, Any] | None
    protocol: str | None
    digest_version: int = DIGEST_VERSION
    content: dict[str, str] = {}
    counts: dict[str, dict[str, int]] = {}

    def with_data(self, datasets: Mapping[str, DetectionDataset]) -> Self:
        """Return a copy with the digests of the data, by split; every image is read.

        Raises:
            DataError: an image cannot be read.
        """
        try:
            digests = {f"data.{split}": data_digest(data.annotations) for split, data in datasets.items()}
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}; repair or remove it") from error
        counts = {f"data.{split}": data.describe() for split, data in datasets.items()}
        return self.model_copy(update={"content": self.content | digests, "counts": counts})

    def with_init(self, ancestor: AncestorRecord | None) -> Self:
        """Return a copy with the digest of the detector that `model.init` names; itself without one."""
        if ancestor is None:
            return self
        return self.model_copy(update={"content": self.content | {INIT: ancestor.sha256}})

    @property
    def stamp(self) -> dict[str, str]:
        """Tags that a metric depends on: the protocol's version and the validation data's digest."""
        return {protocol_tag(VALIDATION): self.protocol or "", "data.digest": self.content["data.val"]}

    def differences(self, former: Self) -> list[str]:
        """List the differences from a former fingerprint, one line for each key or part.

        Parts that are unknown in one of them are not compared: data that this command has not read yet, and parts that
        a version without fingerprints did not store.

        Args:
            former: fingerprint stored in the folder.
        """
        return [*self._setting_differences(former), *self._content_differences(former)]

    def _setting_differences(self, former: Self) -> Iterator[str]:
        if former.settings is None or self.settings is None:
            return
        there, now = (flatten(fill_defaults(settings)) for settings in (former.settings, self.settings))
        by_content = [*self._data_keys_to_skip(former)]
        by_content += {WEIGHTS, INIT} & former.content.keys() & self.content.keys()
        for key in sorted(there.keys() | now.keys()):
            kept, asked = there.get(key, "absent"), now.get(key, "absent")
            if kept != asked and key not in by_content and not has_role(key, Role.RUNTIME):
                yield f"{key}: was {kept}, is now {asked}"

    def _data_keys_to_skip(self, former: Self) -> Sequence[str]:
        """List the data keys to skip, as content is compared instead; old checkpoints list all classes."""
        if former.digest_version == self.digest_version and {"data.train", "data.val"} <= former.content.keys():
            return keys_with(Role.DATA)
        return ("data.classes",) if former.mrqm is None else ()

    def _content_differences(self, former: Self) -> Iterator[str]:
        if former.protocol and self.protocol and former.protocol != self.protocol:
            yield f"protocol {VALIDATION}: was {former.protocol}, is now {self.protocol}"
        for key in sorted(former.content.keys() & self.content.keys()):
            if key in self.counts and former.digest_version != self.digest_version:
                continue
            if former.content[key] != self.content[key]:
                yield f"{key}: was {former._describe(key)}, is now {self._describe(key)}"

    def _describe(self, key: str) -> str:
        digest = self.content[key][:SHOWN_DIGITS]
        if key not in self.counts:
            return digest
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts[key].items())
        return f"{counts} (digest {digest})"

    @classmethod
    def read_former(cls, folder: RunFolder) -> Self | None:
        """Read the fingerprint of a folder's run or sweep; None for a new folder.

        Raises:
            RunError: the folder is of the other kind, or its fingerprint cannot be read.
        """
        content = folder.storage.read(FILE)
        if content is None:
            return cls.before_fingerprints(folder)
        try:
            if (kind := Kind.model_validate_json(content).kind) != cls.KIND:
                raise RunError(f"{folder.storage.url} is a {kind}, not a {cls.KIND}; choose another name")
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise RunError(
                f"{folder.storage.url}/{FILE} cannot be read by mrqm {version('mrqm')}: {_first_fault(error)}; "
                "continue with the version that wrote it, or choose another name"
            ) from error

    @classmethod
    def before_fingerprints(cls, folder: RunFolder) -> Self | None:
        """Make the fingerprint of a run of an earlier version, from its configuration alone.

        Raises:
            RunError: the folder is of a sweep.
        """
        if folder.storage.read("space.yaml") is not None:
            raise RunError(f"{folder.storage.url} is a sweep, not a {cls.KIND}; choose another name")
        content = folder.storage.read("config.yaml")
        if content is None:
            return None
        return cls(mrqm=None, settings=yaml.safe_load(content), protocol=None)


class Kind(BaseModel):
    """The part of a fingerprint that tells runs from sweeps."""

    kind: str


def fingerprint_of(config: Config) -> Fingerprint:
    """Make the fingerprint of a training without the digests of its data."""
    return Fingerprint(**configured_fields(config))


def configured_fields(config: Config) -> dict[str, Any]:
    """Compute the fields of a fingerprint that follow from a configuration."""
    weights = config.model.backbone.weights
    content = {}
    if weights in ("none", "hub"):
        content[WEIGHTS] = weights
    elif Path(weights).is_file():
        content[WEIGHTS] = file_digest(Path(weights))
    return {
        "mrqm": version("mrqm"),
        "settings": config.model_dump(mode="json", exclude={"name", "output_dir", "tracking"}),
        "protocol": build_protocol(VALIDATION, config.evaluation).version,
        "content": content,
    }


def require_same(config: Config, folder: RunFolder, now: Fingerprint) -> Fingerprint | None:
    """Check that a command may resume a folder's run or sweep, or begin one in a new folder; write nothing.

    Args:
        config: configuration of the command.
        folder: folder of the run or sweep.
        now: fingerprint of the command, with or without its data.

    Returns:
        The stored fingerprint of the folder; None if the folder is new.

    Raises:
        RunError: the fingerprints differ, or the folder has a run and `train.resume` is `never`.
    """
    former = now.read_former(folder)
    if former is None:
        return None
    url, another = folder.storage.url, f"choose another name, such as name={config.name}-2, or remove"
    if config.train.resume == "never":
        raise RunError(f"{now.KIND} {config.name} exists in {url} and train.resume=never; {another} it")
    if differences := now.differences(former):
        lines = [f"  {line}" for line in differences]
        if former.mrqm != now.mrqm:
            lines.append(f"  (begun by {f'mrqm {former.mrqm}' if former.mrqm else 'a version without fingerprints'})")
        raise RunError(
            "\n".join([f"{now.KIND} {config.name} in {url} has another configuration:", *lines])
            + f"\n{another} {url} to start again"
        )
    return former


def begin(config: Config, folder: RunFolder, now: Fingerprint) -> None:
    """Write the fingerprint, and the configuration of a new run or sweep, to its folder.

    Args:
        config: configuration of the command.
        folder: folder of the run or sweep.
        now: complete fingerprint, data included.

    Raises:
        RunError: the folder has a run or sweep with another fingerprint.
    """
    if require_same(config, folder, now) is None:
        folder.storage.write("config.yaml", config.to_yaml())
    folder.storage.write(FILE, redact(now.model_dump_json(indent=2)) + "\n")


def describe_unknown(former: Fingerprint) -> str | None:
    """Describe the parts that could not be compared, for a run of an earlier version; None if all were."""
    if former.mrqm is not None:
        return None
    return "begun by a version without fingerprints: its data is assumed to be unchanged"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
