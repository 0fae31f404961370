"""Settings of a process that uses Ray and MLflow.

The command line calls `configure_process` before it imports either of them, and the functions that Ray's workers run
call it first. (Ray's `worker_process_setup_hook` would come earlier, but workers that Ray has started in advance cannot
be used with it, which costs seconds.) A script that imports `pipelines` does the same:

    from pipelines.process.configure import configure_process
    configure_process()
    from pipelines.training.driver import train
"""

from __future__ import annotations

import atexit
import gc
import logging
import os

from pipelines.process.loopback import bypass_proxies

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future default; if unset, every start prints a warning
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output can be silenced
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # one log: the journal
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # `tune.execution.ray_tune` suggests no more trials than fit
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a sweep as it ends any command
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "GIT_PYTHON_REFRESH": "quiet",  # a machine without git has no commit to tell
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # within 14 s; the event log keeps reports and sends them again
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # would interrupt the progress; the summary has the address
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Variables that Ray and MLflow read when they are imported or started; the user's environment takes precedence."""
TRAIN_V2 = "RAY_TRAIN_V2_ENABLED"
OBJECTS_BETWEEN_COLLECTIONS = 10_000


def configure_process() -> None:
    """Set up the environment, the proxies and the garbage collection of this process; it may be called again.

    Torch, Ray and MLflow create half a million permanent objects. Garbage collection among them takes a third of the
    time of their import, and their destruction two seconds when a process ends.
    """
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ.get(TRAIN_V2, "1") not in ("1", "true", "True"):
        logger.warning(
            "%s=%s is ignored: mrqm requires the second version of Ray Train", TRAIN_V2, os.environ[TRAIN_V2]
        )
    os.environ[TRAIN_V2] = "1"
    bypass_proxies()
