"""The commands of `mrqm registry`; as in all commands, imports are in their bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrqm.checkpoint.lookup import SCORE

if TYPE_CHECKING:
    from pipelines.registry.client import Registry

app = typer.Typer(
    help="List, compare, promote and download registered models.", no_args_is_help=True, rich_markup_mode=None
)
Model = Annotated[
    str,
    typer.Argument(help="NAME/VERSION, NAME@ALIAS, NAME for its latest version, or runs:/RUN_ID.", show_default=False),
]
Alias = Annotated[str, typer.Option(help="Alias of the version in use.")]
File = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file whose tracking section names the MLflow store.")
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as tracking.uri=URI.", show_default=False),
]
SETTING = "tracking."


@app.command("list")
def list_models(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] [KEY=VALUE]...", help="Model to list instead of all; settings, such as tracking.uri=URI."
        ),
    ] = None,
    config: File = None,
) -> None:
    """List models, their versions and metrics."""
    from rich.console import Console

    from mrqm.redaction import redact
    from pipelines.registry.report import print_models

    settings = [word for word in words or () if word.startswith(SETTING) and "=" in word]
    names = [word for word in words or () if word not in settings]
    if len(names) > 1:
        raise typer.BadParameter(f"expected one model, got {', '.join(names)}")
    with _opened(config, settings) as registry:
        models = {name: registry.versions(name) for name in names} or registry.models()
        if not models:
            typer.echo(f"no models at {redact(registry.uri)}; mrqm train registers them")
            return
        print_models(models, Console(highlight=False))


@app.command()
def show(model: Model, settings: Settings = None, config: File = None) -> None:
    """Show a version: metrics, data, configuration, code, run and the models it was started from."""
    from rich.console import Console

    from pipelines.registry.report import print_version

    with _opened(config, settings) as registry:
        print_version(registry.find(model), registry, Console(highlight=False))


@app.command()
def compare(first: Model, second: Model, settings: Settings = None, config: File = None) -> None:
    """Compare two versions: metrics, with differences if comparable, and settings that differ."""
    from rich.console import Console

    from pipelines.registry.report import print_comparison

    with _opened(config, settings) as registry:
        print_comparison(registry.find(first), registry.find(second), registry, Console(highlight=False))


@app.command()
def promote(
    model: Model,
    settings: Settings = None,
    config: File = None,
    alias: Alias = "champion",
    margin: Annotated[float, typer.Option(help="Minimum improvement of the metric.")] = 0.0,
    metric: Annotated[str, typer.Option(help="Metric to compare.")] = SCORE,
) -> None:
    """Move the alias to a version if its metric is better and comparable, and it loads and predicts."""
    from rich.console import Console

    from pipelines.registry.promotion import promote as move

    console = Console(highlight=False)
    with _opened(config, settings) as registry, console.status("testing the model"):
        version = registry.find(model)
        former = move(registry, version, alias, metric, margin)
    instead = f", instead of version {former.number}" if former else ""
    typer.echo(f"{version} is {alias} now{instead}: {version.metrics[metric]:.4f} {metric}")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Name of the model.", show_default=False)],
    settings: Settings = None,
    config: File = None,
    alias: Alias = "champion",
) -> None:
    """Move the alias back to its previous version."""
    from pipelines.registry.promotion import roll_back

    with _opened(config, settings) as registry:
        left, former = roll_back(registry, name, alias)
    typer.echo(f"{former} is {alias} again, instead of version {left.number}")


@app.command()
def download(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the checkpoint.", show_default=False)],
    settings: Settings = None,
    config: File = None,
) -> None:
    """Download a version's checkpoint, for mrqm evaluate, mrqm predict and mrqm.load."""
    from pipelines.registry.model_files import download as fetch

    with _opened(config, settings) as registry:
        version = registry.find(model)
        fetch(registry, version, out)
    typer.echo(f"{out}: checkpoint of {version}")


@contextmanager
def _opened(config: Path | None, settings: Sequence[str] | None) -> Iterator[Registry]:
    """Open the registry that a file, settings and the environment name."""
    from pipelines.registry.client import open_registry
    from pipelines.registry.model_uri import read_tracking

    if others := [word for word in settings or () if not word.startswith(SETTING)]:
        raise typer.BadParameter(f"{others[0]}: expected tracking.KEY=VALUE: no other settings concern the registry")

    with open_registry(read_tracking(config, settings or ())) as registry:
        yield registry
