from mlflow.store.db import db_types
from mlflow.utils import mlflow_tags, validation

from pipelines.tracking import mlflow_names

NAMES = [name for name in vars(mlflow_names) if name.isupper()]
THEIRS = vars(mlflow_tags) | vars(validation) | vars(db_types)


def test_every_name_is_one_of_mlflows() -> None:
    assert [name for name in NAMES if name not in THEIRS] == []


def test_every_value_is_mlflows() -> None:
    ours = {name: getattr(mlflow_names, name) for name in NAMES}
    theirs = {name: THEIRS[name] for name in NAMES}
    assert ours | {"DATABASE_ENGINES": {*ours["DATABASE_ENGINES"]}} == theirs | {
        "DATABASE_ENGINES": {*theirs["DATABASE_ENGINES"]}
    }
