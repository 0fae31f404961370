"""Processes forked from one that has imported what takes seconds: without it, most of what tests on Ray cost."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([  # not Ray, which reads its process's environment when it is imported
    "mrqm.__main__", "mrqm.trainer", "fsspec", "grpc", "jsonschema", "matplotlib.pyplot", "mlflow", "optuna", "pandas",
    "pyarrow.dataset", "pyarrow.fs", "pytest", "requests", "rich.progress", "sklearn", "sqlalchemy",
])  # fmt: skip
