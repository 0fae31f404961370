"""Ray's `TorchTrainer`, which starts what it needs, and ends when it is done and when it is told to."""

from __future__ import annotations

from typing import Any

import ray
from ray._private.services import get_webui_url_from_internal_kv
from ray._raylet import PlacementGroupID
from ray.actor import ActorHandle
from ray.train import Result
from ray.train.torch import TorchTrainer
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

CLEANER = "PlacementGroupCleanerCallback"
"""What removes a reservation if Ray Train's controller dies before the job."""
DATASETS = "DatasetsCallback"
"""What hands Ray's own data sets to workers, by a process that it starts with them also where there are none."""


class InterruptibleTrainer(TorchTrainer):
    """Ends at once, where its base takes ten seconds or more.

    In the end Ray Train waits for its cleaner of reservations, and that for Ray's dashboard: twelve seconds, in vain,
    in a session that has none. Without one it cleans nothing either; reservations end with the job.

    At Ctrl-C Ray Train asks its controller to stop, which takes as long, or until the node is there that the controller
    waits for. Here the controller is killed, and with it the workers that it owns. What was reserved for them is given
    back, which without that happens when the job ends: in a notebook, hours later.

    Nor does it start a process for Ray's own data sets with every group of workers: it is given none.
    """

    _controller: ActorHandle | None = None

    def fit(self) -> Result:
        """Train.

        Raises:
            KeyboardInterrupt: it was stopped; nothing of it goes on, or waits for a node.
        """
        before = _reservations()
        try:
            return super().fit()
        except KeyboardInterrupt:
            if self._controller is not None:
                ray.kill(self._controller)
                for identity in _reservations() - before:
                    remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(identity))))
            raise

    def _create_default_callbacks(self) -> list[Any]:
        idle = {DATASETS} if get_webui_url_from_internal_kv() else {DATASETS, CLEANER}
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in idle]

    def _register_sigint_handler(self, controller: ActorHandle) -> None:
        """What `fit` calls to have Ctrl-C handled."""
        self._controller = controller


def _reservations() -> set[str]:
    """The placement groups of this job, whose own name is the end of theirs."""
    job = ray.get_runtime_context().get_job_id()
    return {identity for identity in placement_group_table() if identity.endswith(job)}
