"""What a method is: one file that says what happens around each frozen layer, and owns what is trained."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from torch import Tensor, nn

from interplay.errors import InterplayError, unknown
from interplay.methods.sessions import SessionPolicy, Shared
from interplay.methods.traits import Traits
from interplay.ranges import Ranges
from interplay.towers.tokens import Shape, Side, Tokens, Tower
from interplay.towers.walk import Keys, Pair, Step
from interplay.typed import expect, fits, in_code, in_words

if TYPE_CHECKING:
    from interplay.towers.backbone import Backbone


@dataclass(frozen=True)
class NoSettings:
    """A method without settings."""


class Method(nn.Module, ABC):
    """Around each frozen layer: put prompts in, take them out, change them, let the sides talk.

    A subclass is the only one in its file, the file's name is the method's name, and it is never subclassed
    itself. It owns its parameters: `parameters()` is what is trained, `state_dict()` is what is saved; towers
    are arguments. What is new, frozen and kept in a stream of sessions is said by its `sessions`, a policy. Its
    `__init__` takes `(shape, settings)`.
    """

    Settings: ClassVar[type[Any]] = NoSettings
    """A frozen dataclass; contradictions raise `InterplayError` in its `__post_init__`."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings: `{"mitp-small": {"layers": (7,)}}`."""
    ranges: ClassVar[Ranges] = {}
    """Settings worth searching, and where; combinations that contradict each other are left out by the search."""
    traits: Traits = Traits()
    """What callers have to know beforehand; where it hangs on the settings, `__init__` replaces it."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__()
        self.shape = shape
        self.settings = settings

        self.sessions: SessionPolicy = Shared(self.name)
        """What a stream of sessions does to it; where that hangs on the settings, `__init__` replaces it."""

    @property
    def name(self) -> str:
        """The method's name: the name of its file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def first_layer(self, side: Side) -> int:
        """The first layer (from 0) of a side that the method does not leave alone; the depth if there is none.

        Everything in front of it can be computed once and kept.
        """
        return self.shape.side(side).depth

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """Around the embedding: prompts that enter as part of the input.

        Args:
            route: which of the method's prompts each sample takes; also `Tokens.route` at every later layer.
        """
        return tower.embed(inputs)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Around frozen layer `i` (from 0) of one side."""
        return tower.layer(i, tokens)

    def pair_layer(self, step: Step, backbone: Backbone, pair: Pair) -> Pair:
        """Around one step of the lock-step walk; by default each side goes through `layer` on its own."""
        image, text = pair.image, pair.text
        if step.image is not None:
            image = self.layer("image", step.image, backbone.image, image)
        if step.text is not None:
            text = self.layer("text", step.text, backbone.text, text)
        return Pair(image, text)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """Behind the last layer of one side: its vector in the joint space, (batch, joint), not normalised.

        What it reads beside the pooled row is there only if its traits say `reads_rows`.
        """
        return tower.pool(tokens)

    def pair_vectors(self, backbone: Backbone, pair: Pair) -> tuple[Tensor, Tensor]:
        """Behind the last layers of a pair: image and text vector; by default each side's own `vector`."""
        image = self.vector("image", backbone.image, pair.image)
        return image, self.vector("text", backbone.text, pair.text)

    def start_from(self, backbone: Backbone) -> None:
        """Take first values from the backbone; by default nothing.

        Called once, after a fresh method was built and before it is trained; not where costs are counted without
        weights, and what an artefact holds replaces it.
        """

    def objective(self, base: Tensor, keys: Keys | None) -> Tensor:
        """The training loss from the task's own; by default that alone.

        Args:
            base: the loss of the batch, a scalar.
            keys: of the batch, for methods that read them in training.
        """
        return base

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Settings for the contract tests' towers of unequal width and depth (5 and 4 layers)."""
        return {}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: Any) -> int:
        """How many parameters the method trains, as a closed formula."""
        return 0


_BESIDE = ("base", "sessions", "solvers", "traits")
"""Modules of this package that are no methods."""


def _modules() -> list[str]:
    import interplay.methods as package

    return [m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in _BESIDE]


def _class_in(module_name: str) -> type[Method]:
    module = importlib.import_module(f"interplay.methods.{module_name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ImportError(
            f"interplay/methods/{module_name}.py must define exactly one Method, not {len(found)}"
        )
    return found[0]


_MOST = 4096
"""The largest whole number among settings: a length, a width or a rank beyond it ends in no reasonable time."""
_TEXT = 3
"""Positions of the shortest text: start token, one word, end token."""


@dataclass(frozen=True)
class MethodChoice:
    """A method by one of its names: the class and the settings that the name stands for."""

    name: str
    method: type[Method]
    preset: Mapping[str, Any]

    def settings(self, overrides: Mapping[str, Any] | None = None) -> Any:
        """The settings dataclass: what the name stands for, with `overrides` on top.

        Raises:
            InterplayError: an unknown setting, a value of the wrong kind, or a contradiction.
        """
        given = {} if overrides is None else overrides
        expect("settings", given, Mapping)
        owner = f"method '{self.name}'"
        built = make_settings(self.method.Settings, {**self.preset, **given}, owner)
        for name, value in vars(built).items():
            for one in value if isinstance(value, tuple) else (value,):
                if type(one) is int and one > _MOST:
                    raise InterplayError(
                        f"The setting '{name}' of {owner} is at most {_MOST:,}, not {one:,}."
                    )
        return built

    def build(self, shape: Shape, overrides: Mapping[str, Any] | None = None) -> Method:
        """A fresh method for a geometry.

        Raises:
            InterplayError: as `settings`; a geometry that the settings do not fit, as prompts that leave no room for
                words.
        """
        method = self.method(shape, self.settings(overrides))
        reserve = method.traits.reserve
        if reserve + _TEXT > shape.text.positions:
            raise InterplayError(
                f"The method '{self.name}' takes {reserve} of the {shape.text.positions} positions of the text "
                "tower, which leaves no room for words: choose fewer prompts."
            )
        return method


def choices() -> dict[str, MethodChoice]:
    """All methods and variants by name, found by file name; a new file is a new method."""
    found: dict[str, MethodChoice] = {}
    for module_name in _modules():
        method = _class_in(module_name)
        found[module_name] = MethodChoice(module_name, method, {})
        for variant, preset in method.variants.items():
            found[variant] = MethodChoice(variant, method, preset)
    return found


def choose(name: str) -> MethodChoice:
    """A method by its name or the name of a variant; `-` and `_` are the same.

    Raises:
        InterplayError: there is none; names the nearest.
    """
    expect("method", name, str)
    known = choices()
    for spelling in (name, name.replace("-", "_"), name.replace("_", "-")):
        if spelling in known:
            return known[spelling]
    raise unknown("method", name, known)


def make_settings(cls: type[Any], values: Mapping[str, Any], owner: str) -> Any:
    """Build a settings dataclass from plain values; lists become tuples.

    Raises:
        InterplayError: an unknown key (names the nearest), or a value that its field cannot hold.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    plain: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise unknown(f"setting of {owner}", key, known)
        value = tuple(value) if isinstance(value, list) else value
        if not fits(value, hints[key]):
            raise InterplayError(
                f"The setting '{key}' of {owner} cannot be {in_code(value)}; it takes {in_words(hints[key])}."
            )
        plain[key] = value
    return cls(**plain)
