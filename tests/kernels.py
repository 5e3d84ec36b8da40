"""Matrix products that round as the worst library might: differently for every shape and operation.

A BLAS picks its kernel by the shape of a product, and two kernels may add in another order. Whether that shows depends
on the processor. Here it always shows: what is equal bit for bit in this mode is computed by one operation on one
shape.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = (
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "mv",
    "addmv",
    "dot",
    "_scaled_dot_product",
    "convolution",
    "_cdist",
)
BIT = 2**-22
"""Twice the distance of 1 to the next number in single precision; an error is at most 255 times as large."""


class KernelsByShape(TorchDispatchMode):
    """Every result of a product is scaled by 1 + e, where e hangs on the operation and its shapes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not name.startswith(_PRODUCTS):
            return found
        self.calls += 1
        shapes = [tuple(value.shape) for value in args if isinstance(value, Tensor)]
        error = BIT * (zlib.crc32(f"{name} {shapes}".encode()) % 256)
        return _first(found, lambda result: result * (1 + error))


def _first(found: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The result of an operation with its (first) tensor changed."""
    if isinstance(found, Tensor):
        return change(found)
    return (change(found[0]), *found[1:])
