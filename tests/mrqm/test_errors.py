import importlib
import inspect
import pkgutil

import cluster
import mrqm
import pipelines
import tune
from cluster.errors import ClusterError
from mrqm.errors import MrqmError, UserError
from pipelines.failures.classification import WorkerFailure
from pipelines.registry.pyfunc_model import RefusedImageError

OTHER = {WorkerFailure, RefusedImageError}
"""A wrapper on the way to the driver, and an answer of MLflow's server."""


def own_exceptions() -> set[type[Exception]]:
    modules = [
        importlib.import_module(found.name)
        for package in (mrqm, pipelines, tune, cluster)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.endswith("__main__")
    ]
    classes = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    homes = ("mrqm.", "pipelines.", "tune.", "cluster.")
    return {one for one in classes if issubclass(one, Exception) and one.__module__.startswith(homes)}


def test_all_exceptions_have_one_root_in_their_layers() -> None:
    strays = [one for one in own_exceptions() - OTHER if not issubclass(one, MrqmError | ClusterError)]
    assert strays == []


def test_errors_of_users_are_value_errors() -> None:
    assert issubclass(UserError, ValueError)
