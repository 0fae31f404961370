"""Links to MLflow's pages."""

from __future__ import annotations

from pipelines.console.format import command

UI_ADDRESS = "http://127.0.0.1:5000"
"""Address of `mlflow ui`."""


def ui_command(tracking_uri: str, run_id: str) -> str:
    """Return the page of a run on a server, or the command that serves the pages of a database.

    Args:
        tracking_uri: URI of the MLflow store.
        run_id: id of the MLflow run.

    Returns:
        URL or command.
    """
    if tracking_uri.startswith("http"):
        return run_place(tracking_uri, run_id)
    return f"{command('mlflow')} ui --backend-store-uri {tracking_uri}"


def run_place(tracking_uri: str, run_id: str) -> str:
    """Return the location of a run: its page on a server, or its store and its id.

    Args:
        tracking_uri: URI of the MLflow store.
        run_id: id of the MLflow run.

    Returns:
        URL, or `STORE, run ID`.
    """
    if tracking_uri.startswith("http"):
        return f"{tracking_uri.rstrip('/')}/#/runs/{run_id}"
    return f"{tracking_uri}, run {run_id}"
