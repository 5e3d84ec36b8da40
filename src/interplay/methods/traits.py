"""What a method is like: what callers have to know of it before they run it."""

from __future__ import annotations

from dataclasses import dataclass

from interplay.methods.solvers import GRADIENT, Solver
from interplay.towers.tokens import Side
from interplay.towers.walk import Coupling, Order


@dataclass(frozen=True)
class Traits:
    """The traits of a method; those that hang on its settings are replaced when it is built.

    Attributes:
        coupling: `apart`: each side can be encoded alone. `by route`: all that crosses between the sides is the route,
            made from the image's key, so that one side given its route can be encoded alone. `pair`: the towers run in
            lock-step on true pairs, and no side can be encoded alone.
        reserve: text positions that prompts take after the start token, so that captions have to leave them free.
        own_embedding: texts enter through an embedding of the method's own.
        fuses_vectors: `pair_vectors` reads the final vectors, so a text has to end where its own end token stands.
        reads_keys: training needs the samples' keys, for their routes or for the `objective`.
        reads_rows: the method reads rows of the last layer other than the pooled one.
        order: how the layers of unequally deep towers are paired, or which tower runs first (`steps`).
        starts_frozen: a fresh method gives the frozen model's vectors, but for their lengths.
        solver: how it is trained.
        learning_rate: the highest one that suits what it trains, where nobody says another.
    """

    coupling: Coupling = "apart"
    reserve: int = 0
    own_embedding: bool = False
    fuses_vectors: bool = False
    reads_keys: bool = False
    reads_rows: bool = False
    order: Order = "index"
    starts_frozen: bool = False
    solver: Solver = GRADIENT
    learning_rate: float = 2e-3

    @property
    def coupled(self) -> bool:
        """Whether the sides talk while they are encoded, so that pairs are needed."""
        return self.coupling != "apart"

    @property
    def routed_by_image(self) -> bool:
        """Whether both sides of a pair are routed by the image's key."""
        return self.coupling == "by route"

    @property
    def routed_by_itself(self) -> bool:
        """Whether each side of a pair may be routed by its own key while it is trained."""
        return self.reads_keys and self.coupling != "by route"

    def needs_partner(self, *, routed: bool) -> bool:
        """Whether a side cannot be encoded without the other.

        Args:
            routed: whether the side's route is known.
        """
        return self.coupling == "pair" or (self.coupling == "by route" and not routed)

    def crosses_into(self, side: Side) -> bool:
        """Whether what is seen on the other side reaches this side's vector."""
        return self.coupling == "pair" or (self.coupling == "by route" and side == "text")

    @property
    def why_no_continuation(self) -> str | None:
        """Why class texts cannot continue a sample's own text, in words; None where they can."""
        if self.own_embedding:
            return (
                "with these settings embeds texts with weights of its own, and class texts that continue a text leave "
                "them out"
            )
        if self.fuses_vectors:
            return "reads the text's final vector, and class texts that continue a text leave that without an end"
        if self.reserve:
            missed = "class texts that continue it leave them out"
            return f"with these settings puts prompts in front of a text, and {missed}"
        return None
