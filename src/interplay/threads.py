"""How many threads compute, and how they wait for each other; what OpenMP reads is settled before torch is imported."""

from __future__ import annotations

import os
import threading
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Self

CGROUP = Path("/sys/fs/cgroup")


def settle(environment: MutableMapping[str, str], cgroup: Path = CGROUP) -> None:
    """Set what OpenMP reads when it is loaded, where nothing is said yet.

    Threads that have nothing to do sleep (OMP_WAIT_POLICY=PASSIVE). By default they spin, and where another process
    holds a core, the thread that all wait for stands in line behind those that spin: a training step took ten times as
    long. There are at most as many threads as a container's quota has cores (OMP_NUM_THREADS); OpenMP itself heeds the
    process's affinity alone.

    Args:
        environment: of this process; what is set in it stays.
        cgroup: where Linux shows the quota.
    """
    if "GOMP_SPINCOUNT" not in environment:
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = quota(cgroup)
    if cores is not None and cores < len(os.sched_getaffinity(0)):  # Linux, as there is a quota
        environment.setdefault("OMP_NUM_THREADS", str(cores))


def quota(cgroup: Path) -> int | None:
    """The whole cores that a container may use, at least one; None where there is no quota."""
    both = cgroup / "cpu.max"  # version 2
    older = [cgroup / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    if both.is_file():
        allowed, period = both.read_text("ascii").split()
    elif all(file.is_file() for file in older):
        allowed, period = (file.read_text("ascii").strip() for file in older)
    else:
        return None
    if allowed in ("max", "-1"):
        return None
    return max(1, int(allowed) // int(period))


class Turns:
    """Lets as many threads of a program compute at a time as there are cores for; further ones wait, in a `with` block.

    Each of them computes with several threads of its own (`torch.get_num_threads`). More at a time than there are cores
    get less done than one alone: they take the interpreter's lock and the cores' caches from each other.
    """

    def __init__(self) -> None:
        import torch

        cores = (os.cpu_count() or 1) // torch.get_num_threads()
        self._free = threading.BoundedSemaphore(max(1, cores))

    def __enter__(self) -> Self:
        self._free.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        """A copy, also in another process, has turns of its own."""
        return Turns, ()
