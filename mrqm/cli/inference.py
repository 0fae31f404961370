"""Commands that use a model: score it, predict with it, export it."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mrqm.cli.groups import MODEL, Device, Overrides
from pipelines.process.signals import stoppable_command


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
        typer.Option("--config", "-c", help="YAML file whose data and evaluation sections replace the model's."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Results to evaluate instead of a model: COCO json, VisDrone or YOLO texts, folder of mrqm predict."
        ),
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
    device: Device = None,
) -> None:
    """Score a model, or anybody's predictions, by the rules of one or several benchmarks."""
    from rich.console import Console

    models = [argument for argument in arguments or () if "=" not in argument]
    if len(models) > 1:
        raise typer.BadParameter(f"expected one model, got {', '.join(models)}")
    overrides = [argument for argument in arguments or () if "=" in argument]
    console = Console(highlight=False)
    with stoppable_command(typer.echo, "the same command evaluates again"), ExitStack() as temporary:
        with console.status("loading PyTorch"):
            from pipelines.console.progress import ImageProgress
            from pipelines.evaluation.evaluate import evaluate as run
            from pipelines.evaluation.report import analyse, print_evaluation, write_report
            from pipelines.evaluation.request import Request

        request = Request(
            model=models[0] if models else None, predictions=predictions, config=config, overrides=overrides,
            view=view, protocols=tuple(protocol or ("coco",)), device=device, track=track,
            sizes=sizes,
        )  # fmt: skip
        result = run(request, ImageProgress(console))
        analysis = analyse(result)
        print_evaluation(result, analysis, console)
        if report is None and not track:
            return
        folder = report or Path(temporary.enter_context(TemporaryDirectory()))
        files = write_report(result, analysis, folder)
        if report is not None:
            console.print(f"report {report / 'report.md'}")
        if track:
            from pipelines.evaluation.tracking import track_evaluation

            console.print(track_evaluation(result, files))


def predict(
    model: Annotated[str, typer.Argument(help=f"{MODEL}.")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES... [KEY=VALUE]...", help="Files, folders, globs, URIs; settings: data.scale=2"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")],
    device: Device = None,
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
    predicted = summary.images - len(summary.faults)
    typer.echo(f"{summary.folder}: {summary.detections} detections in {predicted} images{skipped}")
    if summary.faults:
        raise typer.Exit(1)


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
