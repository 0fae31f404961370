"""The folder of a prediction, from which the same command resumes it.

out/
  predict.json       model, settings and images: a command with others is refused in the same folder
  .parts/*.npz       detections of each image, written last: an image with this file is done
  visdrone/*.txt     detections as texts
  pictures/*.jpg     detections drawn on the images
  images.json        images (id, file name, size) and categories as COCO lists them
  detections.json    COCO results of all images, written at the end
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrqm.data.results.writer import write_coco_results, write_visdrone_results
from mrqm.errors import UserError
from mrqm.files import write_whole
from mrqm.structures.detections import Detections


class PredictionFolderError(UserError):
    """A folder with results of another prediction."""


@dataclass(frozen=True)
class Result:
    """Result of one image.

    Attributes:
        index: index of the image.
        part: detections and native size, encoded by `pack`; empty if the image does not decode.
        picture: JPEG with drawn detections; empty if not requested.
        fault: reason why the image does not decode; empty if it does.
        left_out: number of detections beyond `evaluation.max_detections_per_image`.
    """

    index: int
    part: bytes = b""
    picture: bytes = b""
    fault: str = ""
    left_out: int = 0


class PredictionFolder:
    """Folder with the results of one prediction.

    Args:
        path: folder to create or continue.
        images: absolute paths of the images.
        names: unique names of their results.
        classes: names in label order.
        settings: settings that change the results, as JSON values.

    Raises:
        PredictionFolderError: the folder holds results of other images or settings.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[Path],
        names: Sequence[str],
        classes: Sequence[str],
        settings: Mapping[str, Any],
    ) -> None:
        self.path, self._images, self._names, self._classes = path, images, names, classes
        self._require_same({**settings, "images": [str(image) for image in images]})
        for part in (".parts", "visdrone", "pictures"):
            (path / part).mkdir(exist_ok=True)

    def _require_same(self, asked: dict[str, Any]) -> None:
        file = self.path / "predict.json"
        if not file.is_file():
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(asked, indent=1))
            return
        kept = json.loads(file.read_text())
        differing = [key for key in sorted(kept.keys() | asked.keys()) if kept.get(key) != asked.get(key)]
        if differing:
            lines = [f"  {key}: was {_shown(kept.get(key))}, is now {_shown(asked.get(key))}" for key in differing]
            raise PredictionFolderError(
                "\n".join([f"{self.path} has results of other settings:", *lines])
                + f"\nchoose another --out, or remove {self.path} to start again"
            )

    def missing(self) -> list[int]:
        """List the indices of the images that are not done."""
        return [index for index, name in enumerate(self._names) if not self._part(name).is_file()]

    def write(self, result: Result) -> None:
        """Write the result of one image; the file that marks it as done comes last."""
        name = self._names[result.index]
        found, _ = unpack(result.part)
        write_visdrone_results(self.path / ".parts", {name: found}, self._classes)
        (self.path / ".parts" / f"{name}.txt").replace(self.path / "visdrone" / f"{name}.txt")
        if result.picture:
            write_whole(self.path / "pictures" / f"{name}.jpg", result.picture)
        write_whole(self._part(name), result.part)

    def finish(self) -> int:
        """Write the listing and the COCO results of all completed images; return the number of detections."""
        detections, images = {}, []
        for index, (image, name) in enumerate(zip(self._images, self._names, strict=True)):
            if self._part(name).is_file():
                detections[index], (height, width) = unpack(self._part(name).read_bytes())
                images.append({"id": index, "file_name": str(image), "name": name, "width": width, "height": height})
        categories = [{"id": number, "name": label} for number, label in enumerate(self._classes, start=1)]
        listing = {"images": images, "categories": categories}
        write_whole(self.path / "images.json", json.dumps(listing, indent=1))
        write_coco_results(self.path / "detections.json", detections, range(1, len(self._classes) + 1))
        return sum(len(found.scores) for found in detections.values())

    def _part(self, name: str) -> Path:
        return self.path / ".parts" / f"{name}.npz"


def pack(found: Detections, size: tuple[int, int]) -> bytes:
    """Encode detections and size of an image as a .npz file.

    Args:
        found: detections in px of the image.
        size: native (height, width) of the image in px.

    Returns:
        Content of the file.
    """
    buffer = io.BytesIO()
    np.savez(buffer, boxes_xywh=found.boxes_xywh, scores=found.scores, labels=found.labels, size=np.array(size))
    return buffer.getvalue()


def unpack(part: bytes) -> tuple[Detections, tuple[int, int]]:
    """Decode detections and size of an image from the output of `pack`."""
    with np.load(io.BytesIO(part), allow_pickle=False) as arrays:
        height, width = arrays["size"].tolist()
        return Detections(arrays["boxes_xywh"], arrays["scores"], arrays["labels"]), (height, width)


def _shown(value: Any) -> str:
    return f"{len(value)} images" if isinstance(value, list) and len(value) > 3 else str(value)
