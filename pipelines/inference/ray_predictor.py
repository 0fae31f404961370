"""`predict_images` on Ray Data: one actor per worker has the model, and results are streamed back.

Images are read by the actors, by the same paths as here: on several nodes they must be on shared storage, or in the
copies that each node makes of the data at a URI.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch
from numpy.typing import NDArray

from mrqm.config import ScalingConfig
from mrqm.inference.detector import Detector
from pipelines.compute.resources import require_room
from pipelines.compute.session import ray_session
from pipelines.inference.predictor import predict_images
from pipelines.inference.results_dir import Result
from pipelines.process.configure import configure_process
from pipelines.storage.data_cache import keep_copies

IMAGES_PER_TASK = 16
"""Images per Ray task: few enough to lose little work, enough to fill batches."""


def predict_on_ray(
    detector: Detector,
    images: Sequence[tuple[int, Path]],
    draw_from: float | None,
    workers: int,
    device: str | None,
    uris: tuple[str, ...] = (),
) -> Iterator[Result]:
    """Predict images on a Ray cluster, with one GPU for each worker where the cluster has any.

    Args:
        detector: detector on the CPU.
        images: pairs of index and path; paths may be in the copies of `uris`.
        draw_from: minimum score of drawn detections; None for no pictures.
        workers: number of actors.
        device: `cpu` to use no GPUs.
        uris: URIs of folders that every node copies.

    Yields:
        The result of each image, in any order.

    Raises:
        ResourceError: the cluster does not answer or is too small for the workers.
    """
    with ray_session():
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        use_gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        require_room(ScalingConfig(num_workers=workers, use_gpu=use_gpu))
        rows = [{"index": index, "path": str(path)} for index, path in images]
        results = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // IMAGES_PER_TASK)).map_batches(
            _Predictor,
            fn_constructor_args=([ray.put(detector)], "cuda" if use_gpu else "cpu", draw_from, uris),
            batch_size=IMAGES_PER_TASK,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=int(use_gpu),
        )
        for row in results.iter_rows():
            yield Result(**row)


class _Predictor:
    """Ray actor with a detector on its device."""

    def __init__(
        self, detector: Sequence[ray.ObjectRef], device: str, draw_from: float | None, uris: tuple[str, ...]
    ) -> None:
        configure_process()
        keep_copies(uris)
        (loaded,) = ray.get(list(detector))
        self._detector = Detector(loaded.model, loaded.config, torch.device(device))
        self._draw_from = draw_from

    def __call__(self, batch: dict[str, NDArray[Any]]) -> Iterator[dict[str, list[Any]]]:
        images = zip(batch["index"].tolist(), map(Path, batch["path"].tolist()), strict=True)
        for result in predict_images(self._detector, images, self._draw_from):
            yield {name: [value] for name, value in vars(result).items()}
