"""Work in processes of its own, for tests that kill it.

A server reads lines of JSON and forks for each, so that what is slow, the imports, is done once. It prints the process
id of a piece of work before it begins and its exit status after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


class Runs:
    """Starts work in processes of its own.

    Args:
        module: runs `serve`.
        environment: variables for it, beside those of this process.
    """

    def __init__(self, module: str, **environment: str) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "ready"

    def line(self) -> str:
        """The next line that the server prints."""
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def start(self, *paths: Path) -> int:
        """The id of the process that works."""
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps([str(path) for path in paths]) + "\n")
        self.server.stdin.flush()
        return int(self.line())

    def finish(self, *paths: Path) -> float:
        """Work to the end; how many seconds that took."""
        began = time.monotonic()
        self.start(*paths)
        assert self.line() == "0"
        return time.monotonic() - began

    def kill_after(self, seconds: float, *paths: Path) -> bool:
        """Start work and kill it; False where it had ended by then."""
        process = self.start(*paths)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        return self.line() == str(-signal.SIGKILL)


def serve(work: Callable[..., None]) -> None:
    """Fork once a line. This process itself never computes, so that its children may."""
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        paths = map(Path, json.loads(line))
        process = os.fork()
        if process == 0:
            status = 1
            try:
                work(*paths)
                status = 0
            finally:
                os._exit(status)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
