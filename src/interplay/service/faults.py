"""What a request can be refused for, each with the HTTP status that says so."""

from __future__ import annotations

from interplay.errors import InterplayError


class Refused(InterplayError):
    """A request that cannot be answered.

    Attributes:
        status: of HTTP.
        code: a word for programs.
        param: which part of the request is meant, as `pairs[2].image`; empty where it is not one.
    """

    status = 400
    code = "refused"

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class Unauthorized(Refused):
    """No token, or an unknown one."""

    status = 401
    code = "unauthorized"


class Forbidden(Refused):
    """The token may not do this."""

    status = 403
    code = "forbidden"


class NoSuch(Refused):
    """There is nothing of that name, or not for this token."""

    status = 404
    code = "not_found"


class Conflict(Refused):
    """Not now, or not with this model."""

    status = 409
    code = "conflict"


class TooLarge(Refused):
    """More than a limit allows."""

    status = 413
    code = "too_large"


class Unusable(Refused):
    """An item that cannot be used."""

    status = 422
    code = "unusable"


class Busy(Refused):
    """No room, or too many requests.

    Attributes:
        seconds: after which it is worth trying again.
    """

    status = 429
    code = "busy"

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Stopping(Refused):
    """The service ends, or is not ready yet."""

    status = 503
    code = "unavailable"
