"""A `TorchTrainer` of Ray without idle callbacks, which ends promptly at Ctrl-C."""

from __future__ import annotations

from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import Result
from ray.train.torch import TorchTrainer

from pipelines.compute.ray_internals import remove_reservations, reservations_of_job, without_idle_callbacks


class InterruptibleTrainer(TorchTrainer):
    """A `TorchTrainer` that ends at once at Ctrl-C, where its base takes ten seconds or more.

    Ray Train asks its controller to stop, which takes as long, or until a node comes that the controller waits for.
    Here the controller is killed, and with it the workers that it owns. Their reservations are removed, which would
    otherwise happen at the end of the job: in a notebook, hours later.

    The two methods with an underscore override Ray's own; in a version of Ray with other names its behaviour remains.
    """

    _controller: ActorHandle | None = None

    def fit(self) -> Result:
        """Train.

        Raises:
            KeyboardInterrupt: the training was stopped; no process or reservation of it remains.
        """
        before = reservations_of_job()
        try:
            return super().fit()
        except KeyboardInterrupt:
            if self._controller is not None:
                ray.kill(self._controller)
                remove_reservations(reservations_of_job() - before)
            raise

    def _create_default_callbacks(self) -> list[Any]:
        return without_idle_callbacks(super()._create_default_callbacks())

    def _register_sigint_handler(self, controller: ActorHandle) -> None:
        self._controller = controller
