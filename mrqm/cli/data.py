"""Commands that make or convert data sets."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.process.signals import stoppable_command


def prepare(
    dataset: Annotated[str, typer.Argument(help="Format of the source: visdrone, coco, soda-d or yolo.")],
    source: Annotated[str, typer.Argument(help="The folder that holds the splits, or its URI.")],
    destination: Annotated[
        Path | None, typer.Argument(help="A new folder; not needed with --check or --preview.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be given several times.")] = None,
    classes: Annotated[str | None, typer.Option(help="Class names in label order, with commas between.")] = None,
    tiles: Annotated[int | None, typer.Option(min=1, help="Cut tiles with this side in px.")] = None,
    overlap: Annotated[int, typer.Option(min=0, help="Px that neighbouring tiles share.")] = 0,
    scale: Annotated[float, typer.Option(min=0.01, max=4, help="Resize images by this factor first.")] = 1.0,
    blackout_ignored: Annotated[
        bool | None, typer.Option(help="Paint ignored regions of tiles black; SODA-D's rule, and its default.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only report; write nothing.")] = False,
    preview: Annotated[
        Path | None, typer.Option(help="Only draw training images, augmented, to this PNG file.", metavar="PNG")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The YAML file with the augmentation of --preview.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of --preview, as data.augment.mosaic=1; may be given several times."),
    ] = None,
) -> None:
    """Check a data set, report what is in it, and convert it. The same command continues where it was stopped."""
    from rich.console import Console

    from pipelines.preparation.output_dir import make_settings

    if [destination is not None, check, preview is not None].count(True) != 1:
        raise typer.BadParameter("give a destination, or --check or --preview without one")
    if preview is None and (config or setting):
        raise typer.BadParameter("--config and --set are for --preview")
    console = Console(highlight=False)
    settings = make_settings(
        dataset=dataset, source=source if "://" in source else Path(source).absolute(), splits=tuple(split or ()),
        classes=tuple(name.strip() for name in classes.split(",")) if classes else None,
        tiles=tiles, overlap=overlap, scale=scale,
        blackout_ignored=dataset == "soda-d" if blackout_ignored is None else blackout_ignored,
    )  # fmt: skip
    if preview is not None:
        with stoppable_command(typer.echo, "nothing was written"):
            from pipelines.preparation.preview import draw_preview

            draw_preview(settings, config, setting or (), preview, console)
            return
    with stoppable_command(typer.echo, "the same command continues"):
        with console.status("loading Ray"):
            from pipelines.preparation.prepare import prepare as run
            from pipelines.preparation.report import print_report
        print_report(run(settings, destination.absolute() if destination else None, console), console)


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
