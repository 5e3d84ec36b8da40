"""One set of prompts a session: the newest is trained, the older ones are frozen, and a batch may mix them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

import torch
from jaxtyping import Int
from torch import Tensor, nn

from interplay.parts.task_keys import Distance, TaskKeys
from interplay.towers.tokens import Side, Tokens

Sessions = Literal["own", "shared"]


class PromptSet(Protocol):
    """The prompts of one session: a module that gives all layers of a side at once, (layers, length, width).

    There is no way to ask for some of the layers: a product over fewer rows may round differently, and then a set would
    change in its last bits when it stops being the newest.
    """

    def __call__(self, side: Side) -> Tensor: ...


class PromptBank(nn.Module):
    """Sets of prompts, one a session, and the keys that tell which session a sample belongs to.

    Frozen sets are materialised once; a batch whose samples belong to different sessions is one gather from the stack.
    Every set, the newest too, is computed by the same operation on the same shapes, so that what a session has learned
    is the same bit for bit whatever comes after it.

    Args:
        make: builds a fresh set (a `PromptSet`); the first one is there from the start.
        sessions: `own`: every session begins a fresh set and freezes the older ones. `shared`: one set is trained
            through all sessions (sequential fine-tuning), and there is nothing to route by.
        centres, distance: as `TaskKeys`.
    """

    def __init__(
        self, make: Callable[[], nn.Module], sessions: Sessions, centres: int = 5, distance: Distance = "l1"
    ) -> None:
        super().__init__()
        self._make = make
        self.own = sessions == "own"
        self.sets = nn.ModuleList([make()])
        self.keys = TaskKeys(centres, distance)
        self._stacks: dict[tuple[Side, torch.device], Tensor] = {}

    @property
    def newest(self) -> nn.Module:
        """The set that is trained."""
        return self.sets[-1]

    def begin(self, meaning: Tensor) -> None:
        """A session begins: all sets are frozen, and it trains a fresh one (drawn by the global RNG, as every set)."""
        if not self.own:
            return
        place = next(self.sets.parameters()).device
        if not len(self.keys):
            self.sets = nn.ModuleList()
        self.sets.requires_grad_(False)
        self.sets.append(self._make().to(place))
        self._stacks.clear()
        self.keys.append(meaning)

    def end(self, image_keys: Tensor, text_keys: Tensor) -> None:
        """The newest session has been trained: keep the centres of its keys, (samples, joint) a side."""
        if self.own:
            self.keys.fit("image", image_keys)
            self.keys.fit("text", text_keys)

    def remove(self, session: int) -> None:
        """Take a session out; those behind it move up. The last one leaves a fresh set behind (of the global RNG)."""
        kept = [old for at, old in enumerate(self.sets) if at != session]
        place = next(self.sets.parameters()).device
        self.sets = nn.ModuleList(kept or [self._make().to(place)])
        self.keys.remove(session)
        self._stacks.clear()

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """The session of each key, (batch,); None where there is none to choose."""
        return self.keys.nearest(side, keys) if len(self.keys) else None

    def margin(self, side: Side, keys: Tensor) -> Tensor | None:
        """How clear that choice is, (batch,) >= 0."""
        return self.keys.margin(side, keys) if len(self.keys) else None

    def frozen(self, side: Side) -> Tensor:
        """The prompts of all sets but the newest: (sets − 1, layers, length, width); materialised once."""
        place = side, next(self.sets.parameters()).device
        if place not in self._stacks:
            with torch.no_grad():
                fresh = self.newest(side)
                old = [earlier(side) for earlier in list(self.sets)[:-1]]
                self._stacks[place] = torch.stack(old) if old else fresh.new_zeros(0, *fresh.shape)
        return self._stacks[place]

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

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        """As every module's; what was materialised from the old weights is dropped."""
        self._stacks.clear()
        super()._load_from_state_dict(*args, **kwargs)
