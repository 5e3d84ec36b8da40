"""How a service is run: its limits, each a number that an answer names when it is reached."""

from __future__ import annotations

from dataclasses import dataclass

from interplay.errors import InterplayError
from interplay.typed import check_fields

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServiceSettings:
    """How a service is run.

    Attributes:
        most_items: pairs, inputs or queries in one request.
        most_bytes: bytes of a request's body.
        most_text: characters of one text.
        most_pixels: pixels of one picture.
        least_edge: pixels of a picture's shorter edge.
        most_hits: hits of one search.
        most_waiting: items of all requests that wait for the model; a request that finds no room is answered 429.
        most_requests: requests that are answered at the same time; a further one is answered 429.
        batch: items that are computed at a time.
        rate: requests for each token, or else for each address, as `100/minute`; empty: any number.
        idle: seconds after which a model that nobody asks for is unloaded; 0: never.
        grace: seconds that requests in flight have to end when the service is told to stop.
        fetch_hosts: hosts that pictures may be fetched from by their address; without any no address is fetched.
        fetch_seconds: seconds until a fetch is given up.
        fetch_bytes: bytes of a picture that is fetched.

    Raises:
        InterplayError: a number that is too small, or a rate that is none.
    """

    most_items: int = 64
    most_bytes: int = 33_554_432
    most_text: int = 10_000
    most_pixels: int = 40_000_000
    least_edge: int = 2
    most_hits: int = 1_000
    most_waiting: int = 512
    most_requests: int = 256
    batch: int = 64
    rate: str = ""
    idle: float = 0.0
    grace: float = 30.0
    fetch_hosts: tuple[str, ...] = ()
    fetch_seconds: float = 10.0
    fetch_bytes: int = 16_777_216

    def __post_init__(self) -> None:
        check_fields(self)
        for name in (
            "most_items",
            "most_bytes",
            "most_text",
            "most_pixels",
            "least_edge",
            "most_hits",
            "most_waiting",
            "most_requests",
            "batch",
            "fetch_bytes",
        ):
            if getattr(self, name) < 1:
                raise InterplayError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name, least in (("idle", 0), ("grace", 0), ("fetch_seconds", 0.001)):
            if not least <= getattr(self, name) < 1e9:
                raise InterplayError(
                    f"{name} is a number of seconds, at least {least}, not {getattr(self, name)}."
                )
        if 2 * self.most_items > self.most_waiting:  # an item may have a picture and a text
            raise InterplayError(
                f"most_waiting must be at least twice most_items, {2 * self.most_items}, not {self.most_waiting}."
            )
