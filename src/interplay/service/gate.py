"""What stands before every route: whose request it is, how large, how often; and what is counted behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interplay.errors import InterplayError
from interplay.service.faults import Busy, Forbidden, Refused, TooLarge, Unauthorized
from interplay.service.metrics import Metrics
from interplay.service.page import entrance
from interplay.service.settings import LOOPBACK, ServiceSettings
from interplay.service.tokens import ANYONE, NOBODY, Holder, Tokens

OPEN = ("/healthz", "/readyz", "/docs", "/openapi.json")
"""Routes that need no token."""
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def fault_body(problem: Refused) -> dict[str, Any]:
    """What was wrong, in OpenAI's form."""
    kind = "server_error" if problem.status >= 500 else _TYPES.get(problem.status, "invalid_request_error")
    return {
        "error": {
            "message": str(problem),
            "type": kind,
            "code": problem.code,
            "param": problem.param or None,
        }
    }


def fault_headers(problem: Refused) -> dict[str, str]:
    """Headers that belong to a status."""
    if isinstance(problem, Busy):
        return {"retry-after": str(problem.seconds)}
    return {"www-authenticate": "Bearer"} if problem.status == 401 else {}


class Rates:
    """How often somebody may ask.

    Args:
        rate: as `100/minute`; empty: any number of times.

    Raises:
        InterplayError: it is no rate.
    """

    def __init__(self, rate: str) -> None:
        self._item: RateLimitItem | None = None
        if rate:
            try:
                self._item = parse(rate)
            except ValueError:
                raise InterplayError(
                    f"rate cannot be '{rate}': write it as 100/minute or 5/second."
                ) from None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, who: str) -> None:
        """Count a request.

        Raises:
            Busy: it is one too many.
        """
        if self._item is not None and not self._limiter.hit(self._item, who):
            again = self._limiter.get_window_stats(self._item, who).reset_time
            seconds = max(1, round(again - time.time()))
            raise Busy(f"More than {self._item} requests: ask again in {seconds} s.", seconds)


class Gate:
    """An ASGI application around another one.

    Args:
        app: behind it.
        tokens: None: anyone may ask, on the loopback address.
        rates: how often somebody may ask.
        settings: the other limits.
        metrics: to count in.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens | None,
        rates: Rates,
        settings: ServiceSettings,
        metrics: Metrics,
    ) -> None:
        self._app, self._tokens, self._metrics = app, tokens, metrics
        self._most, self._most_requests = settings.most_bytes, settings.most_requests
        self._running = 0
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, started = time.monotonic(), 500, False
        self._running += 1

        async def counted(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, _limited(receive, self._most), counted)
        except Refused as problem:
            if started:
                raise
            await _refuse(problem, counted)
        finally:
            self._running -= 1
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.request(route, status, time.monotonic() - begun)

    def _admit(self, scope: Scope) -> None:
        """Let a request in, with its holder.

        Raises:
            Refused: it may not come in.
        """
        headers = _headers(scope["headers"])
        holder = self._holder(scope, headers)
        scope.setdefault("state", {})["holder"] = holder
        size = headers.get("content-length", "0")
        if not (size.isascii() and size.isdecimal()) or len(size) > 15 or int(size) > self._most:
            raise TooLarge(f"The body is larger than {self._most:,} bytes.")
        if _route(scope) not in OPEN:
            if self._running > self._most_requests:
                raise Busy(f"{self._most_requests} requests are being answered: ask again in 1 s.", 1)
            if scope["method"] != "GET" or not entrance.is_page(_route(scope)):  # it has many small parts
                client = scope.get("client") or ("",)
                self._rates.check(str(client[0]) if holder in (ANYONE, NOBODY) else holder.user)

    def _holder(self, scope: Scope, headers: Mapping[str, str]) -> Holder:
        if self._tokens is None:
            _check_local(headers, scope["method"])
            return ANYONE
        route = _route(scope)
        if route in OPEN:
            return NOBODY
        sent = headers.get("authorization")
        if sent is None and entrance.is_page(route):
            sent = entrance.cookie_header(headers, scope["method"])
        try:
            return self._tokens.holder(sent)
        except Unauthorized:
            if route in entrance.OPEN:
                return NOBODY
            raise


def _route(scope: Scope) -> str:
    """The path below the prefix that the whole service has."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; of one that comes twice, the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _check_local(headers: Mapping[str, str], method: str) -> None:
    """Without tokens a page of another site must not ask through somebody's browser.

    Raises:
        Forbidden: the host's name is another one than this machine's, or the page is of another site.
    """
    if _host_of(f"//{headers.get('host', '')}") not in LOOPBACK:
        raise Forbidden(
            "Without tokens this service answers to localhost alone: ask there, or give --token-file."
        )
    origin = headers.get("origin")
    if origin is not None and method != "GET" and _host_of(origin) not in LOOPBACK:
        raise Forbidden("A page of another site may not ask this service.")


def _host_of(address: str) -> str | None:
    """The host of an address; None where there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:  # of brackets
        return None


def _limited(receive: Receive, most: int) -> Receive:
    """A body of at most so many bytes, whatever its header says."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:  # of HTTP's own kind, which passes whatever reads the body
            raise HTTPException(TooLarge.status, f"The body is larger than {most:,} bytes")
        return message

    return limited


async def _refuse(problem: Refused, send: Send) -> None:
    body = json.dumps(fault_body(problem)).encode("ascii")
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    } | fault_headers(problem)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
