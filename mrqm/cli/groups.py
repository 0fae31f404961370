"""Groups and commands of the command line, and arguments that several commands have."""

from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override

from cluster.errors import ClusterError
from mrqm.errors import UserError
from mrqm.redaction import redact

MODEL = "A run's folder (its best checkpoint), RUN/last, a checkpoint's, models:/NAME@ALIAS or runs:/RUN_ID/model"
Device = Annotated[str | None, typer.Option(help="cpu, cuda, or cuda:1.", show_default="the GPU if there is one")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that win over the file, such as optim.lr=1e-4."),
]


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
