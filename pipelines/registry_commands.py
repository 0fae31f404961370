"""`mrqm registry`: thin commands over the registry; as everywhere, imports wait in their bodies."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at registered models, compare, promote and fetch them.", no_args_is_help=True)
Model = Annotated[
    str, typer.Argument(help="NAME/VERSION, NAME@ALIAS, or NAME for its latest version.", show_default=False)
]
Alias = Annotated[str, typer.Option(help="That points at the version in use.")]


@app.command("list")
def list_models(
    name: Annotated[str | None, typer.Argument(help="Only this model.", show_default=False)] = None,
) -> None:
    """Models, their versions, and what they score."""
    from rich.console import Console

    from pipelines.registry import open_registry
    from pipelines.registry_report import print_models

    with open_registry() as registry:
        models = {model: registry.versions(model) for model in ([name] if name else registry.names())}
        if not models:
            typer.echo(f"no models at {registry.uri}; mrqm train registers them")
            return
        print_models(models, Console(highlight=False))


@app.command()
def show(model: Model) -> None:
    """Everything about a version: metrics, data, configuration, code, run."""
    from rich.console import Console

    from pipelines.registry import open_registry
    from pipelines.registry_report import print_version

    with open_registry() as registry:
        print_version(registry.find(model), registry, Console(highlight=False))


@app.command()
def compare(first: Model, second: Model) -> None:
    """Two versions side by side: metrics, if they are comparable, and settings that differ."""
    from rich.console import Console

    from pipelines.registry import open_registry
    from pipelines.registry_report import print_comparison

    with open_registry() as registry:
        print_comparison(registry.find(first), registry.find(second), registry, Console(highlight=False))


@app.command()
def promote(
    model: Model,
    alias: Alias = "champion",
    margin: Annotated[float, typer.Option(min=0, help="How much better it has to be.")] = 0.0,
    metric: Annotated[str, typer.Option(help="That decides.")] = "coco/AP",
) -> None:
    """Let the alias point at a version, if it is better by comparable figures, loads and predicts."""
    from rich.console import Console

    from pipelines.promotion import promote as move
    from pipelines.registry import open_registry

    console = Console(highlight=False)
    with open_registry() as registry, console.status("trying the model"):
        version = registry.find(model)
        former = move(registry, version, alias, metric, margin)
    instead = f", instead of version {former.number}" if former else ""
    typer.echo(f"{version} is {alias} now{instead}: {version.metrics[metric]:.4f} {metric}")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Of the model.", show_default=False)], alias: Alias = "champion"
) -> None:
    """Let the alias point at the version that it pointed at before."""
    from pipelines.promotion import roll_back
    from pipelines.registry import open_registry

    with open_registry() as registry:
        left, former = roll_back(registry, name, alias)
    typer.echo(f"{former} is {alias} again, instead of version {left.number}")


@app.command()
def download(
    model: Model, out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.", show_default=False)]
) -> None:
    """Fetch a version's checkpoint, which mrqm evaluate, mrqm predict and mrqm.load take."""
    from pipelines.registry import download as fetch
    from pipelines.registry import open_registry

    with open_registry() as registry:
        version = registry.find(model)
        fetch(version, out)
    typer.echo(f"{out}: checkpoint of {version}")
