"""Processes that train or evaluate together, as under torchrun."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import torch
import torch.distributed as dist

from .forks import FORKS
from .waiting import PATIENCE


def run_ranks(program: Callable[..., None], ranks: int, *arguments: object) -> None:
    """Run a program on so many ranks, each of one thread; a rank alone has no process group."""
    with tempfile.TemporaryDirectory() as folder:
        given = (ranks, f"file://{folder}/meeting", program, arguments)
        processes = [FORKS.Process(target=_run, args=(rank, *given)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
    assert codes == [0] * ranks


def _run(rank: int, ranks: int, meeting: str, program: Callable[..., None], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    program(*arguments)
    if ranks > 1:
        dist.destroy_process_group()
