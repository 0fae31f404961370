"""Command line: `mrqm`, or `python -m mrqm`. Assembles the layers' commands; no module imports it.

Layers are imported inside the commands, so that `--help` and a mistyped configuration answer at once.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override

from cluster import commands as clusters
from cluster.errors import ClusterError
from mrqm.errors import UserError
from mrqm.redaction import guard_output, redact
from pipelines.compute.job_cwd import JOB
from pipelines.compute.process import configure_process
from pipelines.compute.signals import stoppable_command
from pipelines.registry.cli import app as registry


class Listing(TyperGroup):
    """Group that lists its commands with the whole first sentence of each one's help."""

    @override
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands into help."""
        helps = {name: (command.help or "").split("\n\n")[0] for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, f"{text.partition('. ')[0].strip().rstrip('.')}.") for name, text in helps.items()]
            )


class Commands(Listing):
    """Group that reports a user's error in one message instead of a traceback."""

    @override
    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 2 after a user's error."""
        try:
            return super().invoke(ctx)
        except (UserError, ClusterError) as error:
            if ctx.params["verbose"]:
                raise
            typer.echo(redact(f"error: {error}"), err=True)
            raise typer.Exit(2) from error


class ConfiguredCommand(TyperCommand):
    """Command that explains the missing option when a YAML file is given without one."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command."""
        positional = [word for before, word in pairwise(["", *args]) if not before.startswith("-")]
        files = [word for word in positional if word.endswith((".yaml", ".yml")) and "=" not in word]
        given = {word.partition("=")[0] if word.startswith("--") else word[:2] for word in args if word[:1] == "-"}
        if files and not given & {"-c", "--config", "-h", "--help"}:
            options = ("-c", "-s") if any(name == "space" for name in (p.name for p in self.params)) else ("-c",)
            named = " ".join(f"{option} {file}" for option, file in zip(options, files, strict=False))
            rest = [word for word in args if word not in files]
            meant = " ".join([ctx.command_path, named, *rest])
            raise typer.BadParameter(f"-c names the configuration; did you mean: {meant}", ctx=ctx)
        return super().parse_args(ctx, args)


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
MODEL = "A run's folder (its best checkpoint), RUN/last, a checkpoint's, models:/NAME@ALIAS or runs:/RUN_ID/model"
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
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command(cls=ConfiguredCommand)
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


@app.command(cls=ConfiguredCommand)
def tune(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file such as configs/demo.yaml.")],
    space: Annotated[Path, typer.Option("--space", "-s", help="What is searched, such as tune/spaces/mrqm.yaml.")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the plan.")] = False,
    add_trials: Annotated[int, typer.Option(min=0, help="So many more trials for a sweep that is finished.")] = 0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run trials that failed again.")] = False,
) -> None:
    """Search the configuration's keys on Ray, report, register the best. The same command continues a sweep."""
    from rich.console import Console

    from tune.space.schema import load_space, sweep_config

    sweep_config(config, load_space(space), overrides or ())  # what is mistyped is said before seconds of loading
    console = Console(highlight=False)
    with stoppable_command(typer.echo, "the same command continues the sweep"):
        with console.status("loading Ray, MLflow and Optuna"):
            from tune.report.leaderboard import print_result
            from tune.sweep import Request
            from tune.sweep import sweep as run
        outcome = run(Request(config, space, overrides or (), add_trials, retry_failed, dry_run), console)
        if outcome is not None:
            print_result(outcome, console)


@app.command(cls=ConfiguredCommand)
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


@app.command()
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [KEY=VALUE]...",
            help=f"{MODEL}; settings such as data.root=DIR.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Its data and evaluation replace the model's own."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Instead of a model: COCO json, VisDrone or YOLO texts, predict's folder.")
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="coco, coco-drop-ignored, visdrone, soda-d; may be given several times.", show_default="coco"
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(help="tiles, sliced (images through windows) or full.", show_default="as in training"),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write metrics, curves and the worst images here.")] = None,
    track: Annotated[bool, typer.Option("--track", help="Log to MLflow.")] = False,
    sizes: Annotated[
        Path | None, typer.Option(help="For --predictions without images: lines of name,width,height, or a COCO json.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or cuda:1.", show_default="the GPU if there is one")
    ] = None,
) -> None:
    """Score a model, or anybody's predictions, by the rules of one or several benchmarks."""
    from rich.console import Console

    models = [argument for argument in arguments or () if "=" not in argument]
    if len(models) > 1:
        raise typer.BadParameter(f"expected one model, got {', '.join(models)}")
    overrides = [argument for argument in arguments or () if "=" in argument]
    console = Console(highlight=False)
    with stoppable_command(typer.echo, "the same command evaluates anew"), ExitStack() as temporary:
        with console.status("loading PyTorch"):
            from pipelines.console.progress import ImageProgress
            from pipelines.evaluation.evaluate import Request
            from pipelines.evaluation.evaluate import evaluate as run
            from pipelines.evaluation.report import analyse, print_evaluation, write_report

        request = Request(
            model=models[0] if models else None, predictions=predictions, config=config, overrides=overrides,
            view=view, protocols=tuple(protocol or ("coco",)), device=device, track=track,
            sizes=sizes,
        )  # fmt: skip
        assessment = run(request, ImageProgress(console))
        analysis = analyse(assessment)
        print_evaluation(assessment, analysis, console)
        if report is None and not track:
            return
        folder = report or Path(temporary.enter_context(TemporaryDirectory()))
        files = write_report(assessment, analysis, folder)
        if report is not None:
            console.print(f"report {report / 'report.md'}")
        if track:
            from pipelines.evaluation.tracking import track_evaluation

            console.print(track_evaluation(assessment, files))


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="A kept step, such as runs/demo/faults/step_000123/rank_0.")],
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or cuda:1.", show_default="the GPU if there is one")
    ] = None,
) -> None:
    """Run a training step again whose loss or gradient was not finite or exploded, and say where that begins."""
    from rich.console import Console

    from mrqm.engine.divergence import replay as run
    from pipelines.compute.device import pick_device
    from pipelines.console.summary import print_replay

    print_replay(run(folder, pick_device(device)), Console(highlight=False))


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="Format of the source: visdrone, coco, soda-d or yolo.")],
    source: Annotated[str, typer.Argument(help="The folder that holds the splits, or its URI.")],
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

    from pipelines.preparation.output_dir import make_settings

    if (destination is None) != check:
        raise typer.BadParameter("give a destination, or --check without one")
    console = Console(highlight=False)
    settings = make_settings(
        dataset=dataset, source=source if "://" in source else Path(source).absolute(), splits=tuple(split or ()),
        classes=tuple(name.strip() for name in classes.split(",")) if classes else None,
        tiles=tiles, overlap=overlap, scale=scale,
        blackout_ignored=dataset == "soda-d" if blackout_ignored is None else blackout_ignored,
    )  # fmt: skip
    with stoppable_command(typer.echo, "the same command continues"):
        with console.status("loading Ray"):
            from pipelines.preparation.prepare import prepare as run
            from pipelines.preparation.report import print_report
        print_report(run(settings, destination.absolute() if destination else None, console), console)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help=f"{MODEL}.")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES... [KEY=VALUE]...", help="Files, folders, globs, URIs; settings: data.scale=2"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")],
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or cuda:1.", show_default="the GPU if there is one")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows that the model sees at once.")] = None,
    merge: Annotated[str | None, typer.Option(help="Of windows: window_nms, nms, wbf, soft_nms or plain_nms.")] = None,
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
    with stoppable_command(typer.echo, f"the same command continues in {out}"):
        with console.status("loading the model"):
            from pipelines.console.progress import ImageProgress
            from pipelines.inference.predict import Options
            from pipelines.inference.predict import predict as run
        options = Options(overrides, device, workers, score_threshold if draw else None)
        summary = run(model, words, out, options, ImageProgress(console))
    skipped = f", {len(summary.faults)} unreadable images skipped" if summary.faults else ""
    looked_at = summary.images - len(summary.faults)
    typer.echo(f"{summary.folder}: {summary.detections} detections in {looked_at} images{skipped}")
    if summary.faults:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help=f"{MODEL}.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file.")],
    overrides: Overrides = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="HEIGHT WIDTH",
            help="Height and width of batches, in px.",
            show_default="training's tiles or longest side",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Images to check with: a file, folder or pattern.", show_default="the training's validation data"
        ),
    ] = None,
) -> None:
    """Write the model as ONNX, and check the file against PyTorch.

    In: images, uint8 (batch, 3, HEIGHT, WIDTH) RGB, and sizes, int64 (batch, 2), height and width of each image in it.
    Out: boxes (batch, N, 4) left, top, right, bottom in px, scores (batch, N), labels (batch, N), best first.
    Normalisation, the choice of the best and non-maximum suppression are inside.
    """
    from rich.console import Console

    console = Console(highlight=False)
    with console.status("loading the model"):
        from pipelines.export.export import Request
        from pipelines.export.export import export as run
    agreement = run(Request(model, out, size, tuple(images or ()), overrides or ()), console.print)
    console.print(
        f"{out}: {agreement.detections} detections on {agreement.images} images, in batches of 1 and 3; largest "
        f"difference from PyTorch {agreement.scores:.1e} in scores, {agreement.boxes:.1e} px in boxes"
    )


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

    from mrqm.data.synthetic import write_scenes
    from mrqm.models.lite0 import write_lite0_weights

    with Progress(transient=True) as progress:
        task = progress.add_task("scenes", total=train + val)
        write_scenes(folder, train=train, val=val, size=size, seed=seed, on_scene=lambda: progress.advance(task))
    write_lite0_weights(folder / "tf_efficientnet_lite0.safetensors")
    typer.echo(f"{folder}: {train} training and {val} validation scenes, weights of the demo's backbone")


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
        from pipelines.compute.job_cwd import JobDirectoryError, enter_job_cwd

        try:
            arguments = enter_job_cwd(arguments, FILES)
        except JobDirectoryError as error:
            typer.echo(f"error: {error}", err=True)
            sys.exit(2)
    app(arguments, prog_name="mrqm")


if __name__ == "__main__":
    main()
