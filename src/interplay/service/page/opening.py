"""The page as an application of its own, built when it is opened first, behind a list of what it may be asked."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interplay.service.faults import Conflict, NoSuch, Unusable
from interplay.service.page.entrance import Entrance
from interplay.service.page.handlers import Handlers
from interplay.service.tokens import NOBODY

_ROUTES = re.compile(
    r"/|/config/?|/theme\.css|/(assets|static|svelte)/.+"
    r"|/gradio_api/(queue/(join|data)|info/?|app_id/?|startup-events|theme\.css|cancel|reset/?)"
)
"""What the page itself asks. Gradio has further routes, for files, addresses, recordings: none of them is here."""
_JOIN = "/gradio_api/queue/join"


class Page:
    """The page below its prefix.

    Gradio takes two seconds to import, so it is when somebody opens the page. Its events take words and numbers alone,
    nothing that names a file or an address.

    Args:
        handlers: what the buttons do.
        entrance: asks for a token, where there are some.
    """

    def __init__(self, handlers: Handlers, entrance: Entrance | None) -> None:
        self._handlers, self._entrance = handlers, entrance
        self._app: ASGIApp | None = None
        self._opening = asyncio.Lock()
        self._open = contextlib.AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NoSuch("The page speaks HTTP alone.")
        path = scope["path"].removeprefix(scope["root_path"])
        if self._entrance is not None and (path == "/login" or scope["state"]["holder"] is NOBODY):
            await self._entrance(scope, receive, send)
            return
        if not _ROUTES.fullmatch(path):
            raise NoSuch("The page has no such part.")
        if path == _JOIN:
            receive = await _plain(receive)
        await (await self._opened())(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Let go of it at the end, if it was opened."""
        async with self._open:
            yield

    async def _opened(self) -> ASGIApp:
        async with self._opening:
            if self._app is None:
                self._app = await self._made()
            return self._app

    async def _made(self) -> ASGIApp:
        """Gradio's application around the tabs, begun.

        Raises:
            Conflict: Gradio is not installed.
        """
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # it reads this when it is imported
        try:
            layout: Any = await asyncio.to_thread(importlib.import_module, "interplay.service.page.layout")
        except ModuleNotFoundError as missing:
            raise Conflict(
                f"The page needs the package '{missing.name}': install it with pip install 'interplay[serve]'."
            ) from None
        carrier = layout.carried(self._handlers)
        await self._open.enter_async_context(carrier.router.lifespan_context(carrier))
        app: ASGIApp = carrier
        return app


async def _plain(receive: Receive) -> Receive:
    """The body of an event, which holds words and numbers alone.

    Raises:
        Unusable: something else is among them.
    """
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    try:
        given = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unusable("This is no event of the page.") from None
    if not isinstance(given, list) or any(isinstance(one, list | dict) for one in given):
        raise Unusable("The page's events take words and numbers alone.")
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay
