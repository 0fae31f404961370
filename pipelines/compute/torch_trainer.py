"""Ray's `TorchTrainer`, which starts what it needs, and ends when it is done and when it is told to."""

from __future__ import annotations

from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import Result
from ray.train.torch import TorchTrainer

from pipelines.compute.ray_internals import remove_reservations, reservations_of_job, without_idle_callbacks


class InterruptibleTrainer(TorchTrainer):
    """A `TorchTrainer` that ends at once, where its base takes ten seconds or more.

    At Ctrl-C Ray Train asks its controller to stop, which takes as long, or until the node is there that the controller
    waits for. Here the controller is killed, and with it the workers that it owns. What was reserved for them is given
    back, which without that happens when the job ends: in a notebook, hours later.

    The two methods with an underscore override Ray's own; where Ray has other names for them, its behaviour stays.
    """

    _controller: ActorHandle | None = None

    def fit(self) -> Result:
        """Train.

        Raises:
            KeyboardInterrupt: it was stopped; nothing of it goes on, or waits for a node.
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
