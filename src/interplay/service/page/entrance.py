"""Where the page asks for a token, and keeps it in a cookie that no script and no other site can use."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from interplay.service.faults import Forbidden, Unauthorized
from interplay.service.tokens import Tokens

PREFIX = "/ui"
"""Where the page is."""
COOKIE = "interplay_token"
OPEN = (PREFIX, f"{PREFIX}/", f"{PREFIX}/login")
"""What may be opened without a token: the way to the form, and the form."""
_WRONG = '<p role="alert" style="color:#b91c1c">{}</p>'
_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>interplay</title></head>
<body style="font:1rem system-ui,sans-serif;max-width:24rem;margin:4rem auto;padding:0 1rem;
 color:#0f172a;background:#fff">
<h1>interplay</h1>
<form method="post" action="{action}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
 style="display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem;margin:.25rem 0 1rem">
{wrong}<button style="font:inherit;padding:.5rem 1rem;background:#1d4ed8;color:#fff;border:0;border-radius:.3rem">
Open</button></form></body></html>"""


def is_page(path: str) -> bool:
    """Whether a path is the page's."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def cookie_header(headers: Mapping[str, str], method: str) -> str | None:
    """The token of a browser that has been asked, as a header `Authorization` has it; None without one.

    Raises:
        Forbidden: a page of another origin sends it.
    """
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    if found is None:
        return None
    origin = headers.get("origin")
    own = {headers.get("host"), headers.get("x-forwarded-host")}
    if origin is not None and method != "GET" and urlsplit(origin).netloc not in own:
        raise Forbidden("A page of another site may not ask this service.")
    return f"Bearer {found.value}"


class Entrance:
    """The form, as an ASGI application.

    Args:
        tokens: that are known.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        below = scope["path"].removeprefix(scope["root_path"])
        answer: Response
        if below != "/login":
            answer = RedirectResponse(f"{scope['root_path']}/login", 303)
        elif request.method == "POST":
            answer = await self._entered(request)
        else:
            answer = _form(scope, "")
        await answer(scope, receive, send)

    async def _entered(self, request: Request) -> Response:
        root = str(request.scope["root_path"])
        token = parse_qs((await request.body()).decode("latin-1")).get("token", [""])[0].strip()
        try:
            self._tokens.holder(f"Bearer {token}")
        except Unauthorized:
            return _form(request.scope, _WRONG.format("This token is not known here."), 401)
        answer = RedirectResponse(f"{root}/", 303)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(COOKIE, token, path=root, httponly=True, samesite="strict", secure=secure)
        return answer


def _form(scope: Scope, wrong: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(_FORM.format(action=f"{scope['root_path']}/login", wrong=wrong), status)
