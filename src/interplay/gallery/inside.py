"""A gRPC channel that ends in this process: a client calls a servicer's methods, and nothing listens anywhere.

Milvus Lite as it comes listens on a loopback port without a token, so that every process of the machine could read
and drop a gallery. Here its client reaches it without a port and without a socket: who may read a gallery is who may
read its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import grpc


class Inside(grpc.Channel):  # type: ignore[misc]
    """The calls of a stub, answered by a servicer in the caller's own thread.

    Args:
        servicer: has one method for each call without streams.
    """

    def __init__(self, servicer: Any) -> None:
        self._servicer = servicer

    def unary_unary(self, method: str, *_: Any, **__: Any) -> _Call:
        """The call `/package.Service/Name`."""
        return _Call(getattr(self._servicer, method.rpartition("/")[2]))

    def unary_stream(self, *_: Any, **__: Any) -> None:
        """Nothing: Milvus Lite answers no call with a stream."""

    def stream_unary(self, *_: Any, **__: Any) -> None:
        """Nothing: Milvus Lite takes no stream."""

    def stream_stream(self, *_: Any, **__: Any) -> None:
        """Nothing: Milvus Lite takes no stream."""

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        """Nothing: this channel is always ready."""

    def unsubscribe(self, callback: Any) -> None:
        """Nothing: nobody was subscribed."""

    def close(self) -> None:
        """Nothing: who started the servicer ends it."""

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Call(grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """One call, answered at once."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, *_: Any, **__: Any
    ) -> Any:
        return self._answer(request, _Context(metadata or ()))

    def with_call(self, request: Any, *options: Any, **named: Any) -> tuple[Any, None]:
        return self(request, *options, **named), None

    def future(self, request: Any, *options: Any, **named: Any) -> Future[Any]:
        answered: Future[Any] = Future()
        answered.set_result(self(request, *options, **named))
        return answered


class _Context:
    """What a servicer asks of a call."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = metadata
        self._code = grpc.StatusCode.OK

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        """Raise what a call that the servicer does not know would end with."""
        raise NotImplementedError(f"{self._code.name}: {details}")
