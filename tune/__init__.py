"""Sweeps: Ray Tune runs trials of `pipelines`, Optuna says where to look, a journal remembers everything.

    from tune.sweep import Request, sweep
    outcome = sweep(Request(Path("configs/demo.yaml"), Path("tune/spaces/mrqm.yaml")), Console())

A trial's parameters are dotted keys of the configuration, so that whatever can be configured can be searched, and a
trial is what `mrqm train` does with the same overrides.
"""
