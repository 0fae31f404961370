"""Commands that train, search, check beforehand and replay a step."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mrqm.cli.groups import Device, Overrides
from pipelines.process.signals import stoppable_command


def train(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file such as configs/demo.yaml.")],
    overrides: Overrides = None,
) -> None:
    """Train on Ray, follow in MLflow, register the best model. The same command continues a run that was stopped."""
    from rich.console import Console

    from mrqm.config import load_config

    settings = load_config(config, overrides or ())
    console = Console(highlight=False)
    with stoppable_command(typer.echo, f"the same command continues run {settings.name} from its latest checkpoint"):
        with console.status("loading Ray and MLflow"):
            from pipelines.console.summary import print_summary
            from pipelines.training.driver import train as run
        print_summary(run(settings, console), console)


def tune(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file such as configs/demo.yaml.")],
    space: Annotated[
        Path, typer.Option("--space", "-s", help="YAML file of the search space, such as tune/spaces/mrqm.yaml.")
    ],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    add_trials: Annotated[int, typer.Option(min=0, help="Number of trials to add to a finished sweep.")] = 0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
) -> None:
    """Search the configuration's keys on Ray, report, register the best. The same command continues a sweep."""
    from rich.console import Console

    from tune.space.schema import load_space, sweep_config

    sweep_config(config, load_space(space), overrides or ())  # what is mistyped is said before seconds of loading
    console = Console(highlight=False)
    with stoppable_command(typer.echo, "the same command continues the sweep"):
        with console.status("loading Ray, MLflow and Optuna"):
            from tune.context import Request
            from tune.report.leaderboard import print_result
            from tune.sweep import sweep as run
        outcome = run(Request(config, space, overrides or (), add_trials, retry_failed, dry_run), console)
        if outcome is not None:
            print_result(outcome, console)


def plan(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file such as configs/demo.yaml.")],
    overrides: Overrides = None,
    space: Annotated[Path | None, typer.Option("--space", "-s", help="The search space, to plan a sweep.")] = None,
    gpu_memory: Annotated[
        str | None, typer.Option(help="Memory of a GPU, such as 24GB.", show_default="as the cluster's nodes say")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Check what a training or sweep needs: data, memory, cluster, storage, MLflow; exit with 1 if it would fail."""
    from rich.console import Console

    status = Console(stderr=True).status("loading Ray and MLflow")
    with status:
        from pipelines.preflight.plan import failed, parse_bytes, print_checks, to_json
        from pipelines.preflight.plan import plan as run

        def read() -> Any:
            from mrqm.config import load_config

            if space is None:
                return load_config(config, overrides or ()), None
            from tune.report.preflight import SweepToPlan

            sweep = SweepToPlan(config, space, overrides or ())
            return sweep.config, sweep

        checks = run(read, parse_bytes(gpu_memory) if gpu_memory else None, status.update)
    if as_json:
        typer.echo(to_json(checks))
    else:
        print_checks(checks, Console(highlight=False))
    raise typer.Exit(1 if failed(checks) else 0)


def replay(
    folder: Annotated[Path, typer.Argument(help="A kept step, such as runs/demo/nonfinite_steps/step_000123/rank_0.")],
    device: Device = None,
) -> None:
    """Repeat a saved training step that diverged, and name the first module whose output is not finite."""
    from rich.console import Console

    from mrqm.engine.divergence import replay as run
    from pipelines.console.summary import print_replay
    from pipelines.process.device import pick_device

    print_replay(run(folder, pick_device(device)), Console(highlight=False))
