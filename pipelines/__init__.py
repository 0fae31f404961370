"""Ray Train and MLflow around `mrqm`: train on a cluster, follow the run, register the model.

    from pipelines.train import train
    summary = train(load_config("configs/demo.yaml"))

`mrqm` does the training and knows neither platform; this package starts it, watches it and keeps what comes of it.
"""

import atexit
import gc
import os

from cluster.loopback import bypass_proxies

# Torch, Ray and MLflow make half a million objects that stay. To look for garbage among them again and again takes a
# third of the time in which they are imported, and to take them apart takes two seconds when a process ends.
gc.set_threshold(10_000)
atexit.register(gc.freeze)

# Both platforms read these when they are imported or started, so they are set before any module here imports them.
_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; unset, every start prints a warning
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # within 14 s; what a run reports is kept and tried again anyway
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # in the middle of the progress; the summary has the run's page
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

TRAIN_V2 = "RAY_TRAIN_V2_ENABLED"
TRAIN_V1_WANTED = os.environ.get(TRAIN_V2, "1") not in ("1", "true", "True")
"""The environment asks for a Ray Train that this package cannot use; `ray_session` says so."""
os.environ[TRAIN_V2] = "1"
bypass_proxies()
