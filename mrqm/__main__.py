"""Command line: `mrqm`, or `python -m mrqm`. Assembles the layers' commands; no module imports it.

Layers are imported inside the commands, so that `--help` and a mistyped configuration answer at once.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import commands as clusters
from mrqm.cli import data, inference, training
from mrqm.cli.groups import Commands, ConfiguredCommand, Listing
from mrqm.redaction import guard_output, redact
from pipelines.process.configure import configure_process
from pipelines.process.job_cwd import JOB
from pipelines.registry.cli import app as registry

app = typer.Typer(
    cls=Commands,
    help="Train and evaluate MRQM, a detector of small objects.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut off long options where a terminal has 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(registry, name="registry", cls=Listing)
app.add_typer(clusters.jobs, name="jobs", cls=Listing)
app.add_typer(clusters.cluster, name="cluster", cls=Listing)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mrqm {version('mrqm')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


app.command(cls=ConfiguredCommand)(training.train)
app.command(cls=ConfiguredCommand)(training.tune)
app.command(cls=ConfiguredCommand)(training.plan)
app.command()(inference.evaluate)
app.command()(training.replay)
app.command()(data.prepare)
app.command()(inference.predict)
app.command()(inference.export)
app.command()(data.demo_data)


def _read_submitted(words: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """The configuration file of a command that is to be submitted; raises what the command itself would refuse."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = sorted(commands.keys() - {"submit", "jobs", "cluster"})
    if words[0] not in known:
        raise typer.BadParameter(f"{words[0]}: no command that a cluster runs; those are {', '.join(known)}")
    given = commands[words[0]].make_context(f"mrqm {words[0]}", list(words[1:])).params
    file = given.get("config")
    if file is None or not (folder / file).exists():  # it may be one of the cluster's image
        return {}
    from mrqm.config import load_config
    from mrqm.config.yaml_file import read_yaml

    if words[0] == "train":
        load_config(folder / file, given["overrides"] or ())
    if words[0] == "tune" and (folder / given["space"]).exists():
        from tune.space.schema import load_space, sweep_config

        sweep_config(folder / file, load_space(folder / given["space"]), given["overrides"] or ())
    content = read_yaml(folder / file)
    return {"name": Path(file).stem, **(content if isinstance(content, dict) else {})}


submit = clusters.make_submit(_read_submitted, redact)
app.command("submit", context_settings={"allow_interspersed_args": False})(submit)


def main() -> None:
    """The `mrqm` command; as a job of a cluster it works in the cluster's folder."""
    guard_output()
    configure_process()
    arguments = sys.argv[1:]
    if JOB in os.environ:
        from cluster.command_line import FILES
        from pipelines.process.job_cwd import JobDirectoryError, enter_job_cwd

        try:
            arguments = enter_job_cwd(arguments, FILES)
        except JobDirectoryError as error:
            typer.echo(f"error: {error}", err=True)
            sys.exit(2)
    app(arguments, prog_name="mrqm")


if __name__ == "__main__":
    main()
