"""Sweeps: Ray Tune runs trials of `pipelines`, Optuna suggests their parameters, a journal records everything.

    from tune.context import Request
    from tune.sweep import sweep
    result = sweep(Request(Path("configs/demo.yaml"), Path("tune/spaces/mrqm.yaml")), Console())

A trial's parameters are dotted keys of the configuration, so that everything that can be configured can be searched,
and `mrqm train` with the same overrides repeats a trial.
"""
