"""Class prompts that go through the text tower with the method at work, as CoOp, CoCoOp and MaPLe read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from interplay.methods.base import Method
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Tokens
from interplay.towers.walk import Start, encode, front

CHUNK = 512
"""Class texts at a time, where every image has its own. Beyond it, training computes chunks again for the gradient."""


@dataclass(frozen=True, eq=False)
class _Held:
    """Class vectors, with the tensors that they were made from and the state that each of these was in."""

    vectors: Tensor
    tensors: tuple[Tensor, ...]
    states: tuple[object, ...]


class ClassPrompts(nn.Module):
    """The K class prompts of a head, encoded with a method at work; nothing of them is trained or saved.

    With a gradient they are encoded at every call. Without one, in evaluation, they are encoded once and held until a
    parameter changes or the mode does. Where a method makes a text's route from the image, every image has its own.

    Args:
        backbone: where they are tokenised; they are cut to the longest of them.
        method: reserves room for its prompts in them, and says after which layer they wait.
        prompts: one a class.
    """

    ids: Tensor
    waiting: Tensor | None
    keys: Tensor | None

    def __init__(self, backbone: Backbone, method: Method, prompts: Sequence[str]) -> None:
        super().__init__()
        ids = backbone.tokenize(prompts, reserve=method.traits.reserve).to(backbone.device)
        self.register_buffer("ids", ids, persistent=False)
        self.front_layers = method.first_layer("text")
        waiting = front(backbone.text, ids, self.front_layers).tokens.x if self.front_layers else None
        self.register_buffer("waiting", waiting, persistent=False)
        keys = None
        if method.traits.routed_by_itself:
            with torch.no_grad():
                keys = F.normalize(encode(backbone.text, "text", ids), dim=-1)
        self.register_buffer("keys", keys, persistent=False)
        self._held: _Held | None = None

    def train(self, mode: bool = True) -> ClassPrompts:
        """As every module's; what was held is dropped."""
        self._held = None
        return super().train(mode)

    def forward(
        self, backbone: Backbone, method: Method, route: Tensor | None
    ) -> Float[Tensor, "classes joint"] | Float[Tensor, "batch classes joint"]:
        """The class vectors, not normalised.

        Args:
            route: (batch, …) of the samples' texts; read where the method makes it from the image.

        Returns:
            (classes, joint), or with such routes (batch, classes, joint).
        """
        if method.traits.routed_by_image:
            assert route is not None
            return self._of_each(backbone, method, route)
        if torch.is_grad_enabled() or self.training:
            return self._encoded(backbone, method)
        tensors = (backbone.text.positions, *method.parameters(), *method.buffers())
        if any(tensor.is_inference() for tensor in tensors):  # these do not count their changes
            return self._encoded(backbone, method)
        kind = backbone.device.type
        states = (torch.is_autocast_enabled(kind), *((t._version, t.device, t.dtype) for t in tensors))
        held = self._held
        if held is None or held.states != states or not _same(held.tensors, tensors):
            held = self._held = _Held(self._encoded(backbone, method), tensors, states)
        return held.vectors

    def _encoded(self, backbone: Backbone, method: Method) -> Tensor:
        """(classes, joint): every class prompt once."""
        route = None if self.keys is None else method.sessions.training_route("text", self.keys)
        inputs: Tensor | Start = self.ids
        if self.waiting is not None:
            tokens = Tokens(self.waiting, lengths=backbone.text.lengths(self.ids))
            inputs = Start(tokens, self.front_layers)
        return encode(backbone.text, "text", inputs, method, route=route)

    def _of_each(self, backbone: Backbone, method: Method, route: Tensor) -> Tensor:
        """(batch, classes, joint): every class prompt by every sample's route, `CHUNK` texts at a time."""
        classes = len(self.ids)
        rows = torch.arange(route.shape[0] * classes, device=self.ids.device)

        def some(chosen: Tensor) -> Tensor:
            own = route[chosen // classes]
            return encode(backbone.text, "text", self.ids[chosen % classes], method, route=own)

        again = torch.is_grad_enabled() and len(rows) > CHUNK
        parts = [
            checkpoint(some, chosen, use_reentrant=False) if again else some(chosen)
            for chosen in torch.split(rows, CHUNK)
        ]
        return torch.cat(parts).view(route.shape[0], classes, -1)


def _same(old: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> bool:
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))
