"""Tags and limits of MLflow's stores, by the names that MLflow has for them.

They are parts of MLflow's protocol, which its documentation lists, but its Python modules for them are not documented.
The tests compare them with those of the installed version.
"""

from __future__ import annotations

MLFLOW_DATASET_CONTEXT = "mlflow.data.context"
MLFLOW_GIT_BRANCH = "mlflow.source.git.branch"
MLFLOW_GIT_COMMIT = "mlflow.source.git.commit"
MLFLOW_PARENT_RUN_ID = "mlflow.parentRunId"
MLFLOW_RUN_NOTE = "mlflow.note.content"
MLFLOW_SOURCE_NAME = "mlflow.source.name"
MLFLOW_SOURCE_TYPE = "mlflow.source.type"
MLFLOW_USER = "mlflow.user"

MAX_PARAM_VAL_LENGTH = 6000
"""Characters of a parameter's value."""
MAX_TAG_VAL_LENGTH = 8000
"""Characters of a tag's value."""
MAX_ENTITY_KEY_LENGTH = 250
"""Characters of the name of a metric, a parameter or a tag."""
MAX_DATASET_DIGEST_SIZE = 36
"""Characters of a data set's digest."""
MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_TAGS_PER_BATCH = 100

DATABASE_ENGINES = ("postgresql", "mysql", "sqlite", "mssql")
"""Schemes of URIs that name a database."""
