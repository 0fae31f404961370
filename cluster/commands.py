"""`mrqm submit`, `mrqm jobs` and `mrqm cluster`: thin commands that import in their bodies, so that help is fast."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

jobs = typer.Typer(help="List, follow and stop the jobs of a cluster.", no_args_is_help=True, rich_markup_mode=None)
cluster = typer.Typer(
    help="Start and stop a Ray head and an MLflow server on this machine, for this folder.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of the cluster's dashboard, such as http://127.0.0.1:8265.",
        show_default="RAY_API_SERVER_ADDRESS, RAY_ADDRESS, the cluster started in this folder",
    ),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or a prefix that no other job's id has.")]


def make_submit(
    read: Callable[[Sequence[str], Path], Mapping[str, Any]], redact: Callable[[str], str]
) -> Callable[..., None]:
    """Make `mrqm submit`.

    Args:
        read: reader of the configuration that the words name, in the folder that is sent; raises what the command
            itself would raise.
        redact: function that removes passwords and tokens from a text.

    Returns:
        The command, for Typer.
    """

    def submit(
        words: Annotated[
            list[str],
            typer.Argument(
                metavar="COMMAND", help="Command of mrqm to run, after --, such as: -- train -c configs/demo.yaml"
            ),
        ],
        address: Address = None,
        follow: Annotated[
            bool, typer.Option(help="Print the job's output until it ends, and exit with its exit code.")
        ] = True,
        submission_id: Annotated[
            str | None, typer.Option(help="Name of the job.", show_default="from the configuration's name and the time")
        ] = None,
        working_dir: Annotated[
            Path, typer.Option(help="Folder to send, without what .gitignore and .rayignore match.")
        ] = Path(),
        env: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME[=VALUE]", help="Environment variable of the job; nothing secret."),
        ] = None,
        entrypoint_num_cpus: Annotated[
            float, typer.Option(min=0, help="CPUs to reserve for the job's own process.")
        ] = 0,
        entrypoint_num_gpus: Annotated[
            float, typer.Option(min=0, help="GPUs to reserve for the job's own process.")
        ] = 0,
        entrypoint_memory: Annotated[
            float, typer.Option(min=0, help="GiB of memory to reserve for the job's own process.")
        ] = 0,
    ) -> None:
        """Run a command of mrqm on a cluster, with the folder's files, and follow it."""
        from cluster.submit import Request
        from cluster.submit import submit as send

        resources = {"CPU": entrypoint_num_cpus, "GPU": entrypoint_num_gpus, "memory": entrypoint_memory * 2**30}
        request = Request(words, address, working_dir, submission_id, env or (), resources, read, redact=redact)
        sent = send(request, typer.echo)

        from cluster.jobs.follow_job import describe_commands, follow_job

        if not follow:
            typer.echo(describe_commands(sent.submission_id))
            return
        raise typer.Exit(follow_job(sent.dashboard, sent.submission_id, typer.echo))

    return submit


@jobs.command("list")
def list_jobs(address: Address = None) -> None:
    """List the cluster's jobs, newest first."""
    from rich.console import Console

    from cluster.address import find_address
    from cluster.dashboard import open_dashboard
    from cluster.jobs.listing import list_jobs as find
    from cluster.jobs.listing import print_jobs

    dashboard = open_dashboard(find_address(address))
    if found := find(dashboard):
        terminal = Console(highlight=False)
        print_jobs(found, terminal if terminal.is_terminal else Console(width=1000))  # a pipe gets whole commands
    else:
        typer.echo(f"no jobs at {dashboard.address}; mrqm submit sends them")


@jobs.command()
def logs(
    job: Job,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print the output until the job ends, and exit with its exit code.")
    ] = False,
) -> None:
    """Print the output of a job."""
    from cluster.address import find_address
    from cluster.dashboard import open_dashboard
    from cluster.jobs.listing import find_job, print_logs

    dashboard = open_dashboard(find_address(address))
    submission_id = find_job(dashboard, job)
    if not follow:
        print_logs(dashboard, submission_id, typer.echo)
        return

    from cluster.jobs.follow_job import follow_job

    raise typer.Exit(follow_job(dashboard, submission_id, typer.echo))


@jobs.command()
def stop(job: Job, address: Address = None) -> None:
    """Ask a job to end; a training saves its state, and the same command resumes it."""
    from cluster.address import find_address
    from cluster.dashboard import open_dashboard
    from cluster.jobs.listing import find_job, stop_job

    dashboard = open_dashboard(find_address(address))
    stop_job(dashboard, find_job(dashboard, job), typer.echo)


@cluster.command()
def up(
    dashboard_port: Annotated[
        int, typer.Option(min=1, help="Port of Ray's dashboard; another one if it is in use.")
    ] = 8265,
    mlflow_port: Annotated[
        int, typer.Option(min=1, help="Port of the MLflow server; another one if it is in use.")
    ] = 5000,
    num_cpus: Annotated[
        int | None, typer.Option(min=1, help="Number of CPUs that jobs may use.", show_default="all")
    ] = None,
) -> None:
    """Start Ray, protected by a token, and MLflow on loopback; a running cluster is kept."""
    from cluster.local import describe, start

    for line in describe(start(dashboard_port, mlflow_port, num_cpus, typer.echo)):
        typer.echo(line)


@cluster.command()
def down() -> None:
    """Stop the cluster and its jobs; runs, models and MLflow's database stay."""
    from cluster.local import end

    end(typer.echo)


@cluster.command()
def status() -> None:
    """Show the cluster's addresses; exit with 1 if Ray or MLflow does not answer."""
    from cluster.local import describe, find, is_whole
    from cluster.state import read_state

    state = read_state()
    if state is None:
        typer.echo("no cluster was started in this folder; mrqm cluster up starts one")
        raise typer.Exit(1)
    if not is_whole(state):
        typer.echo(f"{len(find(state))} processes of the cluster are left, and it does not answer; mrqm cluster down")
        raise typer.Exit(1)
    for line in describe(state):
        typer.echo(line)
