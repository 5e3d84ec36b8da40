"""A service as a process: from settings to a server that ends cleanly."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from interplay.errors import InterplayError
from interplay.service.app import make_app
from interplay.service.core import Service
from interplay.service.galleries import Galleries
from interplay.service.models import Models
from interplay.service.settings import LOOPBACK, ServiceSettings
from interplay.service.tokens import Tokens

if TYPE_CHECKING:
    from fastapi import FastAPI

    from interplay.towers.backbone import Backbone


@dataclass(frozen=True)
class Place:
    """What a process serves, and where.

    Attributes:
        models: the folder with runs.
        open_backbone: loads a backbone by the name that runs say.
        host, port: to listen at.
        token_file: hashes of tokens; None: anyone, on the loopback address alone.
        preload: names of runs to load at once, and to keep; None: all of them are loaded.
        galleries: places of galleries by the names of their retrievers, beside those in the runs.
        gallery_token: of a Milvus server that wants one.
        page: whether there is one for browsers, under `/ui`.
        root_path: what a proxy has taken off the front of every path, as `/interplay`.

    Raises:
        InterplayError: no tokens for an address that others can reach.
    """

    models: Path
    open_backbone: Callable[[str], Backbone]
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    preload: tuple[str, ...] | None = None
    galleries: Mapping[str, str] = field(default_factory=dict)
    gallery_token: str | None = None
    page: bool = True
    root_path: str = ""

    def __post_init__(self) -> None:
        if self.token_file is None and self.host not in LOOPBACK:
            raise InterplayError(
                f"Without tokens the service listens on this machine alone, not on {self.host}: make some by "
                "'interplay token FILE --user NAME', and give --token-file."
            )
        if not 0 <= self.port < 65536:
            raise InterplayError(f"port is a number from 0 to 65535, not {self.port}.")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise InterplayError(
                f"--root-path begins with a slash and ends without one, not '{self.root_path}'."
            )


def serve(place: Place, settings: ServiceSettings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight end within the grace time.

    Args:
        ready: told the address as soon as it answers.

    Raises:
        InterplayError: no runs, tokens that cannot be read, a gallery that another process holds, an address that is
            taken.
    """
    tokens = None if place.token_file is None else Tokens.read(place.token_file)
    models = Models(place.models, place.open_backbone)
    models.check_known(place.preload or (), "--preload")
    service = Service(models, settings, Galleries(place.galleries, place.gallery_token))
    asyncio.run(_serve(service, make_app(service, tokens=tokens, page=place.page), place, ready))


async def _serve(service: Service, app: FastAPI, place: Place, ready: Callable[[str], None]) -> None:
    listening = _listening(place.host, place.port)
    try:
        await service.start(place.preload)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                root_path=place.root_path,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(service.settings.grace)),
            )
        )
        host, port = listening.getsockname()[:2]
        telling = asyncio.create_task(
            _tell(server, ready, f"http://{f'[{host}]' if ':' in host else host}:{port}")
        )
        # uvicorn hands a signal on when it has stopped: by then all is done, and the process ends by itself
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda number, frame: None)
        await server.serve(sockets=[listening])
        telling.cancel()
    finally:
        listening.close()
        await service.close()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # with its protocol named asyncio sends an answer's head and body at once, not 40 ms apart
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
        return listening
    except OSError as problem:
        raise InterplayError(
            f"Cannot listen on {host}, port {port} ({problem.strerror or problem}): choose another --port."
        ) from None


async def _tell(server: uvicorn.Server, ready: Callable[[str], None], address: str) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    ready(address)
