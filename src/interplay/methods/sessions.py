"""What happens to a method when the sessions of a stream come one after the other: what is new, frozen, kept, chosen.

A policy is no module: what is trained and saved belongs to the method, and the policy refers to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.parts.gaussian_keys import GaussianKeys
from interplay.parts.prompt_bank import PromptBank, Sessions
from interplay.parts.vector_alignment import VectorAlignment
from interplay.towers.tokens import Side
from interplay.towers.walk import Keys


class SessionPolicy(ABC):
    """The sessions of a method; by default the same parameters go on being trained.

    Args:
        method: its name, for what is refused.
    """

    ranks: bool = False
    """Whether the method has prompts by which a session's pairs can be ranked, alone or as pairs."""
    isolates: ClassVar[bool] = False
    """Whether what a session has learned never changes once it has ended."""
    routes_tasks: ClassVar[bool] = False
    """Whether `route` gives the number of a session."""
    reads_held_out: ClassVar[bool] = False
    """Whether the end of a session reads the keys of its validation samples."""
    reads_features: bool = False
    """Whether it reads what the method gives between the beginning and the end of a session, in place of keys."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.names: list[str] = []

    @property
    def abstains(self) -> bool:
        """Whether `route` may say of a sample that it takes none."""
        return False

    @property
    def left_out(self) -> tuple[str, ...]:
        """The sessions that do not count, as their held-out samples were better off without them."""
        return ()

    def begin(self, name: str, meaning: Tensor) -> None:
        """A session begins. The first one takes the parameters that the method was built with.

        Args:
            name: of the session's task.
            meaning: (joint,) the bare text tower's vector of that name, normalised.
        """
        self.names.append(name)

    def end(self, keys: Keys, held_out: Keys | None = None) -> None:  # noqa: B027
        """The session that began last has been trained; by default nothing is kept.

        Args:
            keys: of its training samples; nothing else of them is there, and none may be kept.
            held_out: of its validation samples; only where the policy reads them, and there are some.
        """

    def forget(self, name: str) -> None:
        """Remove what a session learned.

        Raises:
            InterplayError: the sessions share their parameters, so none of them can be taken out.
        """
        raise InterplayError(
            f"The method '{self.method}' with these settings trains the same parameters in every session: it "
            f"cannot forget '{name}' alone."
        )

    @abstractmethod
    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """Which prompts samples take, chosen by their keys (batch, joint); None where there is no choice.

        Where it `routes_tasks`, (batch,), the number of the session from 0; below 0 for a sample that takes none.
        """

    def training_route(self, side: Side, keys: Tensor) -> Tensor | None:
        """Which prompts samples take while their own session is trained; None: the newest ones."""
        return None

    def margin(self, side: Side, keys: Tensor) -> Tensor | None:
        """How clear the choice of the session was, (batch,) >= 0; None where none is chosen."""
        return None

    def own(self, name: str) -> nn.Module | None:
        """What alone encodes the samples of a session; None where there is no such session, or none of its own."""
        return None


class Shared(SessionPolicy):
    """The same parameters are trained through all sessions (sequential fine-tuning), and nothing is chosen.

    Args:
        method: its name.
        ranks: whether they are prompts of retrieval.
    """

    def __init__(self, method: str, *, ranks: bool = False) -> None:
        super().__init__(method)
        self.ranks = ranks

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """None."""
        return None


class ImageKeys(SessionPolicy):
    """The same parameters are trained through all sessions; a route is the image's key itself (CoCoOp)."""

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """(batch, joint)."""
        return keys

    def training_route(self, side: Side, keys: Tensor) -> Tensor | None:
        """As at prediction."""
        return keys


class Aligned(SessionPolicy):
    """What is learned follows from moments of all sessions' pairs, whatever their order; any of them can be taken out.

    Args:
        method: its name.
        alignment: keeps the moments.
    """

    reads_held_out = True

    def __init__(self, method: str, alignment: VectorAlignment) -> None:
        super().__init__(method)
        self.alignment = alignment
        self.reads_features = alignment.added > 0

    @property
    def left_out(self) -> tuple[str, ...]:
        """Those whose own maps made their held-out pairs worse."""
        return tuple(
            name for name, count in zip(self.names, self.alignment.counting(), strict=True) if not count
        )

    def begin(self, name: str, meaning: Tensor) -> None:
        """Room for its moments."""
        super().begin(name, meaning)
        self.alignment.begin()

    def end(self, keys: Keys, held_out: Keys | None = None) -> None:
        """The moments of its pairs are kept, and all is solved anew."""
        other = None if held_out is None else (held_out.image, held_out.text)
        self.alignment.end(keys.image, keys.text, other)

    def forget(self, name: str) -> None:
        """The session's moments go, and all is solved anew."""
        self.alignment.remove(self.names.index(name))
        self.names.remove(name)

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """None."""
        return None


class Pool(SessionPolicy):
    """One pool of prompts serves all sessions; each image picks the prompts whose keys are nearest to its own (L2P).

    Args:
        method: its name.
        owner: the module whose parameter holds the prompts' keys, (prompts, joint).
        parameter: the name of that parameter.
        picked: how many prompts an image takes.
    """

    ranks = True

    def __init__(self, method: str, owner: nn.Module, parameter: str, picked: int) -> None:
        super().__init__(method)
        self.owner = owner
        self.parameter = parameter
        self.picked = picked

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """The numbers of the nearest prompts of each image, (batch, picked), the nearest first; texts pick none."""
        if side == "text":
            return None
        own = self.owner.get_parameter(self.parameter)
        near = F.normalize(keys, dim=-1) @ F.normalize(own, dim=-1).T.to(keys)
        return near.topk(self.picked, dim=1).indices

    def training_route(self, side: Side, keys: Tensor) -> Tensor | None:
        """As at prediction."""
        return self.route(side, keys)


class Banked(SessionPolicy):
    """A set of prompts for every session.

    Args:
        method: its name.
        bank: holds the sets.
    """

    ranks = True
    routes_tasks = True

    def __init__(self, method: str, bank: PromptBank) -> None:
        super().__init__(method)
        self.bank = bank

    def begin(self, name: str, meaning: Tensor) -> None:
        """All sets are frozen, and the session trains a fresh one."""
        super().begin(name, meaning)
        self.bank.begin(meaning)

    def meanings(self) -> Tensor:
        """The bare text tower's vectors of the tasks' names, (sessions, joint)."""
        return torch.stack([kept.meaning for kept in self.bank.keys.sessions()])

    def learned(self, side: Side) -> Tensor:
        """The prompts of all sessions, (sessions, prompts, width)."""
        return torch.stack([learned(side).flatten(0, 1) for learned in self.bank.sets])

    @abstractmethod
    def margin(self, side: Side, keys: Tensor) -> Tensor | None:
        """How clear that is, (batch,) >= 0."""


class OwnSets(Banked):
    """A sample takes the set of the session that has the k-means centre nearest to its key (S-Prompts; LPI).

    With keys by Gaussians it takes that of the most probable session, and none where none is sure.
    """

    isolates = True

    @property
    def abstains(self) -> bool:
        """Where keys are told by Gaussians."""
        return isinstance(self.bank.keys, GaussianKeys)

    def end(self, keys: Keys, held_out: Keys | None = None) -> None:
        """What tells its keys is kept."""
        self.bank.end(keys.image, keys.text)

    def forget(self, name: str) -> None:
        """The session's set goes, and what tells its keys."""
        self.bank.remove(self.names.index(name))
        self.names.remove(name)

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """The session that is nearest or most probable, (batch,)."""
        return self.bank.route(side, keys)

    def margin(self, side: Side, keys: Tensor) -> Tensor | None:
        """How much further the next session is; infinite with a single session."""
        return self.bank.margin(side, keys)

    def own(self, name: str) -> nn.Module | None:
        """The session's set."""
        return self.bank.sets[self.names.index(name)] if name in self.names else None


class LearnedKeys(Banked):
    """A sample takes the set of the session whose learned key is nearest to its own (DualPrompt).

    The method has more parameters, which all sessions train: none of them is isolated.

    Args:
        method: its name.
        bank: of sets with a `keys` by side, (joint,) each.
        sides: that have such keys; the others choose nothing.
    """

    def __init__(self, method: str, bank: PromptBank, sides: Iterable[Side]) -> None:
        super().__init__(method, bank)
        self.sides = tuple(sides)

    def _near(self, side: Side, keys: Tensor) -> Tensor | None:
        """Cosine of each sample's key to every session's, (batch, sessions), without a gradient."""
        if side not in self.sides or not self.names:
            return None
        with torch.no_grad():
            own = torch.stack([learned.keys[side] for learned in self.bank.sets])  # type: ignore[index]
            return keys @ F.normalize(own, dim=-1).T.to(keys)

    def route(self, side: Side, keys: Tensor) -> Tensor | None:
        """The session with the nearest key, (batch,)."""
        near = self._near(side, keys)
        return None if near is None else near.argmax(dim=1)

    def margin(self, side: Side, keys: Tensor) -> Tensor | None:
        """Cosine to the nearest session key − cosine to the second nearest; infinite with a single session."""
        near = self._near(side, keys)
        if near is None:
            return None
        if len(self.names) == 1:
            return torch.full((len(keys),), float("inf"), device=keys.device)
        two = near.topk(2, dim=1).values
        return two[:, 0] - two[:, 1]


def sessions_of(method: str, bank: PromptBank, sessions: Sessions) -> SessionPolicy:
    """The policy of a method whose settings say `own` or `shared`."""
    return OwnSets(method, bank) if sessions == "own" else Shared(method, ranks=True)
