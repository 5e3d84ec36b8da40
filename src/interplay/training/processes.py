"""A piece of work in several processes of this machine at once, each of them one rank of a training."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from interplay.errors import InterplayError

LOST = 75
"""The exit code of a process that ended because it had lost another one."""
_LEVEL = "TORCH_CPP_LOG_LEVEL"
_GRACE = 5.0
"""Seconds that processes have to end by themselves where one of them has failed."""


class Lost(InterplayError):
    """Another process of the training ended, and this one had to."""


def in_processes(work: Callable[..., None], arguments: tuple[Any, ...], count: int, what: str) -> None:
    """Run `work(*arguments)` in fresh processes of this machine that find one another, and wait for all of them.

    Only `work` runs there; everything before and after it happens once, in the process that calls. Each gets a copy of
    the arguments. They find one another by the variables that Lightning and torch read (LOCAL_RANK, WORLD_SIZE,
    MASTER_ADDR, MASTER_PORT). Fresh processes import the main module, as always with `multiprocessing`: a script that
    ends up here does its work under `if __name__ == "__main__":`.

    Args:
        work: a function of a module.
        count: of processes.
        what: they do, for messages.

    Raises:
        InterplayError: what a process raised; or one of them died.
        RuntimeError: an error in the program, with its traceback.
    """
    told = multiprocessing.get_context("spawn").SimpleQueue()
    threads = max(1, torch.get_num_threads() // count)
    sent = pickle.dumps((work, arguments))
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_network_port()),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(count),
    }
    with _still():
        context: ProcessContext = start_processes(  # type: ignore[no-untyped-call]
            _rank, (place, threads, told, sent), count, join=False, start_method="spawn"
        )
    try:
        with _unsaid():
            while not context.join(grace_period=_GRACE):
                pass
    except ProcessException as ended:
        if not told.empty():
            raise told.get() from None
        raise _died(context, ended, what) from ended
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def _rank(rank: int, place: dict[str, str], threads: int, told: Any, sent: bytes) -> None:
    """One process: do the work, and tell of a mistake."""
    os.dup2(2, 1)  # stdout is for the result of the process that waits
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]  # it tells of the process that waits
    os.environ |= place | {"LOCAL_RANK": str(rank)}
    torch.set_num_threads(threads)
    try:
        work, arguments = pickle.loads(sent)
        work(*arguments)
    except Lost:
        sys.exit(LOST)
    except (InterplayError, OSError, MemoryError) as problem:
        told.put(problem)
        sys.exit(1)
    except Exception:
        told.put(RuntimeError(f"Process {rank + 1} failed:\n{traceback.format_exc()}"))
        sys.exit(1)


def _died(context: ProcessContext, ended: ProcessException, what: str) -> InterplayError:
    """Which process it was, and how."""
    codes = [process.exitcode for process in context.processes]
    first = ended.error_index
    if codes[first] == LOST:  # it only was the first to be seen
        first = next((rank for rank, code in enumerate(codes) if code not in (0, LOST)), first)
    code = codes[first]
    how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
    hint = ", as where memory runs out" if code == -signal.SIGKILL else ""
    return InterplayError(
        f"Process {first + 1} of {len(codes)} of {what} died ({how}{hint}), so the others were ended. What was saved "
        "before is intact: go on with resume."
    )


@contextlib.contextmanager
def _still() -> Iterator[None]:
    """Processes that start here do without the notes of torch's C++ parts, which read this when they are loaded."""
    before = os.environ.get(_LEVEL)
    os.environ.setdefault(_LEVEL, "ERROR")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LEVEL]


@contextlib.contextmanager
def _unsaid() -> Iterator[None]:
    """Without torch's notes about the processes that it ends."""
    logger = logging.getLogger("torch.multiprocessing.spawn")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
