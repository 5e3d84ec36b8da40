"""LoRA on the attention of either or both towers, by `peft` (Hu et al., ICLR 2022)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.ranges import Choice, Ranges, Real, Whole
from interplay.towers.skeleton import skeleton
from interplay.towers.tokens import Shape, Side, Sides, Tokens, Tower, TowerShape, sides_of

WIDTHS = {"qkv": (1, 3), "out": (1, 1)}
"""Inputs and outputs of each linear map that may be adapted, in widths of its tower."""


@dataclass(frozen=True)
class LoraSettings(MethodSettings):
    """Settings of LoRA.

    Attributes:
        rank: r of the update B·A.
        alpha: the update is scaled by alpha / r.
        targets: which maps of every layer: `qkv` (queries, keys and values are one map here), `out`, or both.
        sides: which towers.
        dropout: on the update's input, in training.
    """

    rank: int = 4
    alpha: int = 8
    targets: tuple[Literal["qkv", "out"], ...] = ("qkv", "out")
    sides: Sides = "both"
    dropout: float = 0.0

    ranges: ClassVar[Ranges] = {
        "rank": Whole(1, 32, log=True),
        "alpha": Choice((4, 8, 16, 32)),
        "targets": Choice((("qkv", "out"), ("qkv",), ("out",))),
        "dropout": Real(0.0, 0.3),
    }

    def __post_init__(self) -> None:
        if min(self.rank, self.alpha) < 1 or not self.targets or not 0 <= self.dropout < 1:
            raise InterplayError("LoRA needs rank and alpha >= 1, at least one target and 0 <= dropout < 1.")


class Lora(Method):
    """W·x + alpha/r·B·A·x on the attention maps of every layer; B starts at zero, where the backbone is unchanged.

    `peft` makes the adapters on layers without weights; a layer that runs borrows the tower's own, so they are neither
    copied nor part of what is saved, and nothing changes that another thread could be using. All sessions of a stream
    train the same adapters.
    """

    Settings = LoraSettings
    traits = Traits(reads_rows=True, starts_frozen=True, learning_rate=3e-3)
    """The shortcut for the pooled row reads the frozen maps themselves, so an adapted tower does without it."""

    def __init__(self, shape: Shape, settings: LoraSettings) -> None:
        super().__init__(shape, settings)
        self.adapted: tuple[Side, ...] = sides_of(settings.sides)
        layers = {side: _adapted_layers(shape.side(side), settings) for side in self.adapted}
        self.adapters = nn.ModuleDict(
            {side: nn.ModuleList(_adapters_of(layer) for layer in layers[side]) for side in self.adapted}
        )
        self._layers = (layers,)  # a tuple, so that the layers without weights are not registered

    def first_layer(self, side: Side) -> int:
        """The first layer of an adapted tower."""
        return 0 if side in self.adapted else self.shape.side(side).depth

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The layer with its adapters."""
        if side not in self.adapted:
            last = i == tower.shape.depth - 1
            return tower.layer(i, tokens.for_next(pooled_only=last))
        adapted = _with_weights(self._layers[0][side][i], tower.blocks[i])
        return tower.layer(i, tokens, block=adapted.train(self.training))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """A small rank."""
        return {"rank": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: LoraSettings) -> int:
        """Σ over layers and maps of r·(inputs + outputs)."""
        sides = sides_of(settings.sides)
        multiple = sum(sum(WIDTHS[target]) for target in settings.targets)
        widths = [shape.side(s).width_at(i) for s in sides for i in range(shape.side(s).depth)]
        return settings.rank * multiple * sum(widths)


def _adapted_layers(shape: TowerShape, settings: LoraSettings) -> list[nn.Module]:
    """Layers without weights, with `peft`'s adapters beside their linear maps."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
    )
    layers = []
    for i in range(shape.depth):
        layer = inject_adapter_in_model(config, skeleton(shape, i))
        for name, adapter in _adapters(layer).items():
            adapter.to_empty(device="cpu")
            if ".lora_A." in f".{name}":
                nn.init.kaiming_uniform_(adapter.weight, a=5**0.5)
            else:
                nn.init.zeros_(adapter.weight)
        layers.append(layer)
    return layers


def _adapters(layer: nn.Module) -> dict[str, Any]:
    """The linear maps A and B of a layer, by name."""
    return {
        name: module
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear) and (".lora_A." in name or ".lora_B." in name)
    }


def _adapters_of(layer: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({name.replace(".", "-"): module for name, module in _adapters(layer).items()})


def _with_weights(adapted: nn.Module, frozen: nn.Module) -> nn.Module:
    """A layer without weights as one that has those of a frozen layer; they share adapters and weights, no more."""
    shell = _shell(adapted)
    for name, weight in frozen.named_parameters():
        owner, _, leaf = name.rpartition(".")
        module = shell.get_submodule(owner)
        getattr(module, "base_layer", module)._parameters[leaf] = weight
    return shell


def _shell(module: nn.Module) -> nn.Module:
    """A second module tree over the same parameters, in which each may be replaced without a trace in the first."""
    shell = copy.copy(module)
    shell._parameters = dict(module._parameters)
    shell._modules = {name: child and _shell(child) for name, child in module._modules.items()}
    return shell
