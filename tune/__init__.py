"""Sweeps: Ray Tune runs trials of `pipelines`, Optuna says where to look, a journal remembers everything.

    from tune.sweep import Request, sweep
    outcome = sweep(Request(Path("configs/demo.yaml"), Path("tune/spaces/mrqm.yaml")), Console())

A trial's parameters are dotted keys of the configuration, so that whatever can be configured can be searched, and a
trial is what `mrqm train` does with the same overrides.
"""

import os

import pipelines as pipelines  # its settings of Ray's and MLflow's environment come first

# Ray Tune reads these when it starts.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # one log: the journal
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # `tune.execution.ray_tune` hands out no more trials than fit
    "RAY_AIR_NEW_OUTPUT": "0",  # the old one can be silent
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a sweep as it ends any command
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
