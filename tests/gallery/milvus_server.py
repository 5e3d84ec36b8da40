"""A real Milvus server for the slow tests: the program of the package `milvus`, which brings its own binaries.

`INTERPLAY_TEST_MILVUS` names the program `milvus-server` where it is installed. Otherwise it is installed once, into a
virtual environment of its own in the user's cache.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings
from interplay.gallery.gallery import Gallery
from tests.gallery.fake import Fake

PACKAGE = "milvus==2.3.5"
PORTS = (
    *("proxy", "proxy-internal", "etcd", "root-coord", "query-coord", "query-node"),
    *("index-coord", "index-node", "data-coord", "data-node"),
)


def program() -> Path:
    """The program that starts a server.

    Raises:
        OSError: it cannot be had here; the text says why.
    """
    named = os.environ.get("INTERPLAY_TEST_MILVUS")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "interplay-tests" / PACKAGE.replace("==", "-")
    found = place / "bin" / "milvus-server"
    if not found.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True)
            pip = [place / "bin" / "pip", "install", "--quiet", "--only-binary=:all:", PACKAGE, "setuptools"]
            subprocess.run(pip, check=True, capture_output=True, timeout=600)
        except subprocess.SubprocessError as problem:
            raise OSError(f"{PACKAGE} cannot be installed: {problem}") from None
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Server:
    """A Milvus server in a process of its own, which can be stopped, killed and started again.

    Args:
        folder: of its data.
        options: further ones of the program.
        scheme, token, settings: with which it is asked whether it is there.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        scheme: str = "http",
        token: str = "",
        settings: ServerSettings | None = None,
    ) -> None:
        self.folder = folder
        self._ports = {name: free_port() for name in PORTS}
        self.port = self._ports["proxy"]
        self.address = f"{scheme}://127.0.0.1:{self.port}"
        self._ready = (self.address, token, settings or ServerSettings(timeout=20.0))
        self._peers = free_port()
        self._command = [
            str(program()),
            *("--data", str(folder / "data")),
            *(word for name, port in self._ports.items() for word in (f"--{name}-port", str(port))),
            *options,
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, once its ports are free."""
        while not self._is_free():
            time.sleep(0.5)
        # the etcd inside would take the same ports for every server of a machine
        etcd, peers = f"http://127.0.0.1:{self._ports['etcd']}", f"http://127.0.0.1:{self._peers}"
        (self.folder / "etcd.yaml").write_text(
            f"listen-client-urls: {etcd}\nadvertise-client-urls: {etcd}\n"
            f"listen-peer-urls: {peers}\ninitial-advertise-peer-urls: {peers}\n"
            f"initial-cluster: default={peers}\n"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "ETCD_CONFIG_PATH": str(self.folder / "etcd.yaml")},
                start_new_session=True,
            )
        self.wait()

    def wait(self, seconds: float = 240) -> None:
        """Until it answers."""
        address, token, settings = self._ready
        deadline = time.monotonic() + seconds
        while True:
            try:
                Gallery.open(Fake(), address, "ready", token, settings=settings).close()
                return
            except InterplayError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
                assert self.process is not None
                assert self.process.poll() is None
                time.sleep(1)

    def _is_free(self) -> bool:
        """Whether all its ports can be taken: it would take others, and wait for itself at the former ones."""
        for port in self._ports.values():
            with socket.socket() as tried:
                try:
                    tried.bind(("127.0.0.1", port))
                except OSError:
                    return False
        return True

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Have it end by itself."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
