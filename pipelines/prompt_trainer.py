"""Ray's `TorchTrainer`, which starts what it needs, and ends when it is done and when it is told to."""

from __future__ import annotations

from typing import Any

import ray
from ray._private.services import get_webui_url_from_internal_kv
from ray.actor import ActorHandle
from ray.train import Result
from ray.train.torch import TorchTrainer

CLEANER = "PlacementGroupCleanerCallback"
"""What removes a reservation if Ray Train's controller dies before the job."""
DATASETS = "DatasetsCallback"
"""What hands Ray's own data sets to workers, by a process that it starts with them also where there are none."""


class PromptTrainer(TorchTrainer):
    """Ends at once, where its base takes ten seconds or more.

    In the end Ray Train waits for its cleaner of reservations, and that for Ray's dashboard: twelve seconds, in vain,
    in a session that has none. Without one it cleans nothing either; reservations end with the job.

    At Ctrl-C Ray Train asks its controller to stop, which takes as long, or until the node is there that the controller
    waits for. Here the controller is killed, and with it the workers that it owns.

    Nor does it start a process for Ray's own data sets with every group of workers: it is given none.
    """

    _controller: ActorHandle | None = None

    def fit(self) -> Result:
        """Train.

        Raises:
            KeyboardInterrupt: it was stopped. What was to be reserved on a node that it waited for goes with the job.
        """
        try:
            return super().fit()
        except KeyboardInterrupt:
            if self._controller is not None:
                ray.kill(self._controller)
            raise

    def _create_default_callbacks(self) -> list[Any]:
        idle = {DATASETS} if get_webui_url_from_internal_kv() else {DATASETS, CLEANER}
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in idle]

    def _register_sigint_handler(self, controller: ActorHandle) -> None:
        """What `fit` calls to have Ctrl-C handled."""
        self._controller = controller
