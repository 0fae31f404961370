"""The command line: `mrqm`, or `python -m mrqm`. Assembles the layers' commands; nothing imports it.

Layers are imported inside the commands, so that `--help` and a mistyped configuration answer at once.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipelines.registry_commands import app as registry


class Commands(TyperGroup):
    """Says a user's error in one message instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 2 after a user's error."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            from pipelines.errors import is_users_error

            if ctx.params["verbose"] or not is_users_error(error):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=Commands,
    help="Train and evaluate MRQM, a detector of small objects.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(registry, name="registry")
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that win over the file, such as optim.lr=1e-4."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mrqm {version('mrqm')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show where in the code an error comes from.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None: ...


@app.command()
def train(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file such as configs/demo.yaml.")],
    overrides: Overrides = None,
) -> None:
    """Train on Ray, follow in MLflow, register the best model. The same command continues a run that was stopped."""
    from rich.console import Console

    from mrqm.config import load_config

    settings = load_config(config, overrides or ())
    console = Console(highlight=False)
    with console.status("loading Ray and MLflow"):
        from pipelines.report import print_summary
        from pipelines.train import train as run
    try:
        summary = run(settings, console)
    except KeyboardInterrupt as interrupt:
        console.print(f"stopped; the same command continues run {settings.name} from its latest checkpoint")
        raise typer.Exit(130) from interrupt
    print_summary(summary, console)


@app.command()
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [KEY=VALUE]...",
            help="A checkpoint's folder, models:/NAME/VERSION or models:/NAME@ALIAS; settings such as data.root=DIR.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Its data and evaluation replace the model's own."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Instead of a model: COCO results.json, VisDrone texts, or predict's folder.")
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="coco, visdrone or soda-d; may be given several times.  [default: coco]")
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(help="tiles, sliced (images through windows) or full.  [default: as in training]"),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write metrics, curves and the worst images here.")] = None,
    track: Annotated[bool, typer.Option("--track", help="Log to MLflow.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")] = None,
) -> None:
    """Score a model, or anybody's predictions, by the rules of one or several benchmarks."""
    from rich.console import Console

    from pipelines.evaluate import Request, evaluate
    from pipelines.evaluation_report import analyse, print_assessment, write_report
    from pipelines.image_progress import ImageProgress

    models = [argument for argument in arguments or () if "=" not in argument]
    if len(models) > 1:
        raise typer.BadParameter(f"expected one model, got {', '.join(models)}")
    overrides = [argument for argument in arguments or () if "=" in argument]
    console = Console(highlight=False)
    request = Request(
        model=models[0] if models else None, predictions=predictions, config=config, overrides=overrides, view=view,
        protocols=tuple(protocol or ("coco",)), device=device,
    )  # fmt: skip
    assessment = evaluate(request, ImageProgress(console))
    analysis = analyse(assessment)
    print_assessment(assessment, analysis, console)
    if report is not None:
        write_report(assessment, analysis, report)
        console.print(f"report {report / 'report.md'}")
    if track:
        from pipelines.track_evaluation import track_evaluation

        console.print(track_evaluation(assessment, analysis))


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="A kept step, such as runs/demo/faults/step_000123/rank_0.")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")] = None,
) -> None:
    """Run a training step again whose loss or gradient was not finite, and say where that begins."""
    from rich.console import Console

    from mrqm.faults import replay as run
    from pipelines.device import pick_device
    from pipelines.report import print_replay

    print_replay(run(folder, pick_device(device)), Console(highlight=False))


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="Format of the source: visdrone, coco, soda-d or yolo.")],
    source: Annotated[Path, typer.Argument(help="The folder that holds the splits.")],
    destination: Annotated[Path | None, typer.Argument(help="A new folder; not needed with --check.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be given several times.")] = None,
    classes: Annotated[str | None, typer.Option(help="Class names in label order, with commas between.")] = None,
    tiles: Annotated[int | None, typer.Option(min=1, help="Cut tiles with this side in px.")] = None,
    overlap: Annotated[int, typer.Option(min=0, help="Px that neighbouring tiles share.")] = 0,
    scale: Annotated[float, typer.Option(min=0.01, max=4, help="Resize images by this factor first.")] = 1.0,
    blackout_ignored: Annotated[
        bool | None, typer.Option(help="Paint ignored regions of tiles black; SODA-D's rule, and its default.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only report; write nothing.")] = False,
) -> None:
    """Check a data set, report what is in it, and convert it. The same command continues where it was stopped."""
    from rich.console import Console

    from pipelines.preparation import make_settings

    if (destination is None) != check:
        raise typer.BadParameter("give a destination, or --check without one")
    console = Console(highlight=False)
    settings = make_settings(
        dataset=dataset, source=source.absolute(), splits=tuple(split or ()),
        classes=tuple(name.strip() for name in classes.split(",")) if classes else None,
        tiles=tiles, overlap=overlap, scale=scale,
        blackout_ignored=dataset == "soda-d" if blackout_ignored is None else blackout_ignored,
    )  # fmt: skip
    with console.status("loading Ray"):
        from pipelines.prepare import prepare as run
        from pipelines.prepare_report import print_report
    try:
        reports = run(settings, destination.absolute() if destination else None, console)
    except KeyboardInterrupt as interrupt:
        console.print("stopped; the same command continues")
        raise typer.Exit(130) from interrupt
    print_report(reports, console)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A checkpoint's folder, models:/NAME/VERSION or models:/NAME@ALIAS.")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES... [KEY=VALUE]...", help="Files, folders, globs; settings such as data.scale=2"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows that the model sees at once.")] = None,
    merge: Annotated[str | None, typer.Option(help="Of windows: nms, wbf or soft_nms.")] = None,
    score_threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score of what pictures show.")] = 0.3,
    draw: Annotated[bool, typer.Option(help="Whether to draw pictures.")] = True,
    workers: Annotated[int, typer.Option(min=0, help="Ray actors, a GPU each if there are any; 0: no Ray.")] = 0,
) -> None:
    """Detect in images of any size: COCO json, VisDrone texts, pictures. The same command continues when stopped."""
    from rich.console import Console

    overrides = [word for word in images if "=" in word and not Path(word).exists()]
    words = [word for word in images if word not in overrides]
    overrides += [f"evaluation.batch_size={batch_size}"] if batch_size else []
    overrides += [f"evaluation.merge={merge}"] if merge else []
    console = Console(highlight=False)
    with console.status("loading the model"):
        from pipelines.image_progress import ImageProgress
        from pipelines.predict import Options
        from pipelines.predict import predict as run
    options = Options(overrides, device, workers, score_threshold if draw else None)
    try:
        summary = run(model, words, out, options, ImageProgress(console))
    except KeyboardInterrupt as interrupt:
        console.print(f"stopped; the same command continues in {out}")
        raise typer.Exit(130) from interrupt
    skipped = f", {len(summary.faults)} unreadable images skipped" if summary.faults else ""
    typer.echo(f"{summary.folder}: {summary.detections} detections in {summary.images} images{skipped}")
    if summary.faults:
        raise typer.Exit(1)


@app.command()
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where the data goes, such as data/demo.")],
    train: Annotated[int, typer.Option(min=1, help="Training scenes.")] = 240,
    val: Annotated[int, typer.Option(min=1, help="Validation scenes.")] = 48,
    size: Annotated[tuple[int, int], typer.Option(metavar="HEIGHT WIDTH", help="Of a scene in px.")] = (320, 320),
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other scenes.")] = 0,
) -> None:
    """Generate scenes that look like drone pictures, in VisDrone layout, with weights for the demo's backbone."""
    from rich.progress import Progress

    from mrqm.data.scenes import write_scenes
    from mrqm.models.lite0 import write_lite0_weights

    with Progress(transient=True) as progress:
        task = progress.add_task("scenes", total=train + val)
        write_scenes(folder, train=train, val=val, size=size, seed=seed, on_scene=lambda: progress.advance(task))
    write_lite0_weights(folder / "tf_efficientnet_lite0.safetensors")
    typer.echo(f"{folder}: {train} training and {val} validation scenes, weights of the demo's backbone")


def main() -> None:
    """The `mrqm` command."""
    app(prog_name="mrqm")


if __name__ == "__main__":
    main()
