"""One set of prompts a session: the newest is trained, the older ones are frozen, and a batch may mix them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from interplay.parts.gates import Gates, placed
from interplay.parts.gaussian_keys import GaussianKeys
from interplay.parts.task_keys import Distance, TaskKeys
from interplay.towers.tokens import Side, Tokens, Tower

Sessions = Literal["own", "shared"]
"""`own`: a set for each session; `shared`: one set, trained on and on (sequential fine-tuning)."""
T = TypeVar("T")


class PromptSet(Protocol):
    """The prompts of one session: a module that gives all layers of a side at once, (layers, length, width).

    Its `gates` stand between them and the layers that read them; None: nothing does.

    There is no way to ask for some of the layers: a product over fewer rows may round differently, and then a set would
    change in its last bits when it stops being the newest.
    """

    gates: Gates | None

    def __call__(self, side: Side) -> Tensor: ...


@dataclass(frozen=True)
class Fresh:
    """Builds a set that takes nothing from the older ones; unlike a lambda it can be sent to another process."""

    make: Callable[[], nn.Module]

    def __call__(self, older: Sequence[nn.Module]) -> nn.Module:
        return self.make()


class PromptBank(nn.Module):
    """Sets of prompts, one a session, and the keys that tell which session a sample belongs to.

    Frozen sets are materialised once; a batch whose samples belong to different sessions is one gather from the stack.
    Every set, the newest too, is computed by the same operation on the same shapes, so that what a session has learned
    is the same bit for bit whatever comes after it.

    Args:
        make: builds a fresh set (a `PromptSet`) beside the older ones (`Fresh` where it does not read them); the first
            one is there from the start.
        centres: of `TaskKeys`.
        distance: as `TaskKeys`, or `gaussian` for `GaussianKeys`.
    """

    def __init__(
        self, make: Callable[[Sequence[nn.Module]], nn.Module], centres: int = 5, distance: Distance = "l1"
    ) -> None:
        super().__init__()
        self._make = make
        self.sets = nn.ModuleList([make([])])
        self.keys = GaussianKeys() if distance == "gaussian" else TaskKeys(centres, distance)
        self._held: dict[tuple[str, torch.device], Any] = {}

    @property
    def newest(self) -> nn.Module:
        """The set that is trained."""
        return self.sets[-1]

    def begin(self, meaning: Tensor) -> None:
        """A session begins: all sets are frozen, and it trains a fresh one (drawn by the global RNG, as every set)."""
        place = next(self.sets.parameters()).device
        if not len(self.keys):
            self.sets = nn.ModuleList()
        self.sets.requires_grad_(False)
        self.sets.append(self._make(list(self.sets)).to(place))
        self._held.clear()
        self.keys.append(meaning)

    def end(self, image_keys: Tensor, text_keys: Tensor) -> None:
        """The newest session has been trained: keep what tells its keys, (samples, joint) a side."""
        self.keys.fit("image", image_keys)
        self.keys.fit("text", text_keys)

    def remove(self, session: int) -> None:
        """Take a session out; those behind it move up. The last one leaves a fresh set behind (of the global RNG)."""
        kept = [old for at, old in enumerate(self.sets) if at != session]
        place = next(self.sets.parameters()).device
        self.sets = nn.ModuleList(kept or [self._make([]).to(place)])
        self.keys.remove(session)
        self._held.clear()

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """The session of each key, (batch,), -1 where no session is sure; None where there is none to choose."""
        return self.keys.nearest(side, keys) if len(self.keys) else None

    def margin(self, side: Side, keys: Tensor) -> Tensor | None:
        """How clear that choice is, (batch,) >= 0."""
        return self.keys.margin(side, keys) if len(self.keys) else None

    def frozen(self, side: Side) -> Tensor:
        """The prompts of all sets but the newest: (sets − 1, layers, length, width); materialised once."""

        def stack(older: Sequence[nn.Module]) -> Tensor:
            fresh: Tensor = self.newest(side)
            return torch.stack([old(side) for old in older]) if older else fresh.new_zeros(0, *fresh.shape)

        return self.once(f"frozen {side}", stack)

    def once(self, what: str, compute: Callable[[Sequence[nn.Module]], T]) -> T:
        """What is computed from the frozen sets, without a gradient; held until there are others.

        Args:
            what: its name.
            compute: from all sets but the newest, the oldest first.
        """
        place = what, next(self.sets.parameters()).device
        if place not in self._held:
            with torch.no_grad():
                self._held[place] = compute(list(self.sets)[:-1])
        found: T = self._held[place]
        return found

    def stream(self, side: Side, route: Int[Tensor, " batch"] | None) -> Tensor:
        """The prompts of all layers for a batch.

        Args:
            route: the session of each sample; None: the newest set, as in training.

        Returns:
            (layers, length, width), or with a route (batch, layers, length, width).
        """
        fresh: Tensor = self.newest(side)
        return fresh if route is None else torch.cat([self.frozen(side), fresh[None]])[route]

    def hold(self, side: Side, tokens: Tokens) -> Tokens:
        """The same tokens holding the prompts of all layers for their route; those that hold some already stay.

        See `Tokens.held_for`: so they are computed once a walk, not once a layer.
        """
        if tokens.held is not None:
            return tokens
        return replace(tokens, held=self.stream(side, tokens.route).flatten(-3, -2))

    def enter(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """A tower's embedding with the prompts of layer 0 as part of the input; the others are held."""
        stream = self.stream(side, route)
        return replace(tower.embed(inputs, context=stream[..., 0, :, :]), held=stream.flatten(-3, -2))

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens, prompted: range, length: int) -> Tokens:
        """Layer `i` behind its gate; on prompted ones `length` fresh prompts overwrite what the slots hold."""
        if i in prompted:
            tokens = self.hold(side, tokens)
            last = i + 1 in prompted or i + 1 == tower.shape.depth
            tokens = placed(self._gates(self.newest), tower, tokens, tokens.held_for(i, length), last=last)
        return tower.layer(i, self.gated(side, i, tokens))

    def gated(self, side: Side, layer: int, tokens: Tokens) -> Tokens:
        """The tokens in front of a layer, behind the gate that each sample's own set has there."""
        newest = self._gates(self.newest)
        row = None if newest is None else newest.row(side, layer)
        if newest is None or row is None:
            return tokens
        fresh = newest(side)
        if tokens.route is None:
            return tokens.for_next(gate=fresh[row])

        def stack(older: Sequence[nn.Module]) -> Tensor:
            closed: Tensor = fresh.new_zeros(0, *fresh.shape)
            return torch.stack([self._gates(old)(side) for old in older]) if older else closed  # type: ignore[misc]

        every = torch.cat([self.once(f"gates {side}", stack), fresh[None]])
        return tokens.for_next(gate=every[tokens.route, row])

    @staticmethod
    def _gates(prompts: nn.Module) -> Gates | None:
        found: Gates | None = prompts.gates  # type: ignore[assignment]
        return found

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        """As every module's; what was materialised from the old weights is dropped."""
        self._held.clear()
        super()._load_from_state_dict(*args, **kwargs)
