"""Links to MLflow's pages."""

from __future__ import annotations

from pipelines.console.format import command

UI_ADDRESS = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers."""


def ui_command(tracking_uri: str, run_id: str) -> str:
    """The page of a run on a server, or the command that serves the pages of a database."""
    if tracking_uri.startswith("http"):
        return run_place(tracking_uri, run_id)
    return f"{command('mlflow')} ui --backend-store-uri {tracking_uri}"


def run_place(tracking_uri: str, run_id: str) -> str:
    """Where a run is: its page on a server, or its store and its id."""
    if tracking_uri.startswith("http"):
        return f"{tracking_uri.rstrip('/')}/#/runs/{run_id}"
    return f"{tracking_uri}, run {run_id}"
