"""Methods that are broken on purpose, each with the rule of the contract that has to turn red."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from interplay.methods.base import Method
from interplay.methods.coop import Coop
from interplay.methods.dcp import Dcp
from interplay.methods.dual_prompt import DualPrompt
from interplay.methods.epic import Epic
from interplay.methods.late_fusion import LateFusion
from interplay.methods.lora import Lora
from interplay.methods.lpi import Lpi
from interplay.methods.maple import Maple
from interplay.methods.mitp import Mitp
from interplay.methods.p_clip import PClip, PClipSettings
from interplay.methods.pmf import Pmf
from interplay.methods.registry import MethodChoice, choose
from interplay.methods.s_prompts import SPrompts
from interplay.methods.settings import MethodSettings
from interplay.methods.solvers import Nothing
from interplay.methods.traits import Traits
from interplay.methods.zero_shot import ZeroShot
from interplay.parts.temporal_prompts import Prompts
from interplay.ranges import Ranges
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape, Side, Tokens, Tower
from interplay.towers.walk import Pair, Step
from tests.contract import rules


@dataclass(frozen=True)
class Mutant:
    """A broken method.

    Attributes:
        method: its class.
        rule: that it breaks.
        of: the sound method or variant that it is made from.
        says: what the rule has to say of it, a regular expression.
        settings: in which form of the sound one.
    """

    method: type[Method]
    rule: rules.Rule
    of: str
    says: str
    settings: Mapping[str, Any]

    @property
    def sound(self) -> MethodChoice:
        """The sound method in that form."""
        sound = choose(self.of)
        return replace(sound, preset={**sound.preset, **self.settings})

    @property
    def choice(self) -> MethodChoice:
        """The broken method under the settings of the sound one."""
        return replace(self.sound, method=self.method)


MUTANTS: list[Mutant] = []


def breaks(rule: rules.Rule, of: str, says: str, **settings: Any) -> Callable[[type[Method]], type[Method]]:
    """Enter a broken method as a `Mutant`."""

    def enter(method: type[Method]) -> type[Method]:
        MUTANTS.append(Mutant(method, rule, of, says, settings))
        return method

    return enter


# Prompts and parameters that do nothing.


@breaks(rules.every_parameter_and_every_prompt_acts, "lpi-m", "the image prompts of layer 1 do nothing")
class LpiWithoutTheSecondLayersPrompts(Lpi):
    """LPI whose prompts of layer 1 are left out."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Skips layer 1."""
        return tower.layer(i, tokens) if i == 1 else super().layer(side, i, tower, tokens)


@breaks(rules.every_parameter_and_every_prompt_acts, "lpi-p", "the image prompts of layer 1 do nothing")
class LpiWithFusionWithoutTheSecondLayersPrompts(Lpi):
    """LPI-P whose image prompts of layer 1 are left out; as parts of the text side's sums they still act."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Skips image layer 1."""
        if side == "image" and i == 1:
            return tower.layer(i, tokens)
        return super().layer(side, i, tower, tokens)


@breaks(rules.every_parameter_and_every_prompt_acts, "p_clip", "text_prompts.2. does nothing")
class PClipWithoutOneLayer(PClip):
    """P-CLIP that leaves its text prompts of layer 2 out."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Skips text layer 2."""
        return tower.layer(i, tokens) if (side, i) == ("text", 2) else super().layer(side, i, tower, tokens)


@breaks(rules.every_parameter_and_every_prompt_acts, "maple", "maps.2.weight does nothing")
class MapleThatStopsEarly(Maple):
    """MaPLe that prompts one layer fewer than it has prompts for, as a `<` for `<=` does."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Stops one layer early."""
        return tower.layer(i, tokens) if i == self.depth - 1 else super().layer(side, i, tower, tokens)


@breaks(rules.every_parameter_and_every_prompt_acts, "dcp", "the text prompts of layer 0 do nothing")
class DcpWithoutTheTextStream(Dcp):
    """DCP that computes the text stream and never injects it, as the released code does."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Leaves the texts alone."""
        return tower.layer(i, tokens) if side == "text" else super().layer(side, i, tower, tokens)


@breaks(rules.every_parameter_and_every_prompt_acts, "dual_prompt", "image.1. does nothing")
class DualPromptThatOverwritesItself(DualPrompt):
    """DualPrompt whose expert layers all take the first expert prefix."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Every expert layer as the first one."""
        experts = self.settings.expert_layers
        if side == "image" and i + 1 in experts:
            tokens = self.bank.hold(side, tokens)
            whole = tokens.held_for(0, 2 * self.settings.length)
            keys, values = whole.chunk(2, dim=-2)
            return tower.layer(i, tokens.for_next(prefix=(keys, values)))
        return super().layer(side, i, tower, tokens)


@breaks(rules.every_parameter_and_every_prompt_acts, "s_prompts", "image.1. does nothing")
class SPromptsWithAShorterContext(SPrompts):
    """S-Prompts that lose the last token of their context."""

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """All tokens but the last."""
        return tower.embed(inputs, context=self.bank.stream(side, route).squeeze(-3)[..., :-1, :])


@breaks(rules.every_parameter_and_every_prompt_acts, "p_clip", "placed prompt 1 of 10 does nothing")
class PClipThatPlacesPromptsForNobody(PClip):
    """P-CLIP that places prompts after the first layer and drops them before any layer has read them."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Places them twice."""
        assert self.image_prompts is not None
        tokens = super().layer(side, i, tower, tokens)
        if (side, i) == ("image", 0):
            tower.put(tokens, self.image_prompts[1])
        return tokens


@breaks(rules.every_parameter_and_every_prompt_acts, "zero_shot", "leave the towers alone")
class ZeroShotWithAHabit(ZeroShot):
    """No parameters, and yet not the bare towers."""

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """A little more than what is pooled."""
        return tower.pool(tokens) * 1.001


@breaks(rules.training_changes_its_own_parameters_alone_and_all_of_them, "mitp", "hub.* is not in the graph")
class MitpWithADeadHub(Mitp):
    """MITP whose hub's answer is thrown away."""

    def _exchange(self, before: Prompts, after: Prompts) -> Prompts:
        return after


@breaks(
    rules.training_changes_its_own_parameters_alone_and_all_of_them,
    "pmf",
    "image_fusion_context_prompts is not in the graph",
)
class PmfWithFrozenContext(Pmf):
    """PMF whose fusion context stays frozen, as a condition on a wrong name does."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        self.image_fusion_context_prompts.requires_grad_(False)


@breaks(
    rules.training_changes_its_own_parameters_alone_and_all_of_them,
    "epic",
    "no gradient reaches .*text_prompts",
)
class EpicWithADeadParameter(Epic):
    """EPIC whose text prompts are multiplied by 0 where they enter."""

    def _given(self, at: int) -> Prompts | None:
        return None if at else (self.image_prompts, self.text_prompts * 0 + 1)


@breaks(
    rules.training_changes_its_own_parameters_alone_and_all_of_them, "lora", "a gradient reaches the frozen"
)
class LoraThatThawsATower(Lora):
    """LoRA that lets the frozen norms be trained beside it."""

    def start_from(self, backbone: Backbone) -> None:
        """Thaws."""
        super().start_from(backbone)
        backbone.image.norm_out.requires_grad_(True)


@breaks(
    rules.training_changes_its_own_parameters_alone_and_all_of_them, "p_clip", "training changes the frozen"
)
class PClipThatWearsTheTowerDown(PClip):
    """P-CLIP that changes a frozen weight in passing."""

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """Changes it."""
        with torch.no_grad():
            next(tower.parameters()).mul_(1.01)
        return super().embed(side, tower, inputs, route)


# Starts that are not what they are called.

FROM_FROZEN = rules.a_frozen_start_is_the_frozen_model_and_can_be_left


@breaks(FROM_FROZEN, "p_clip", "does not start as the frozen model", start="frozen")
class PClipWithALayerWithoutAGate(PClip):
    """P-CLIP that leaves the gate of its last text layer open."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The last one without its gate."""
        if (side, i) == ("text", tower.shape.depth - 1):
            assert self.text_prompts is not None
            return tower.layer(i, tower.put(tokens, self.text_prompts[i]))
        return super().layer(side, i, tower, tokens)


@breaks(FROM_FROZEN, "coop", "does not start as the frozen model", start="frozen")
class CoopThatMovesTheWords(Coop):
    """CoOp whose context takes the words' positions, behind closed gates."""

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """With positions."""
        return tower.embed(inputs, context=self.prompts) if side == "text" else tower.embed(inputs)


@breaks(FROM_FROZEN, "mitp", "no gradient reaches", start="frozen")
class MitpWhoseGatesCannotOpen(Mitp):
    """MITP whose gates are let through as the square of what they are: flat where they start."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        assert self.gates is not None
        self.gates.register_forward_hook(lambda module, asked, opened: opened**2)


@breaks(FROM_FROZEN, "late_fusion", "unsaid")
class LateFusionThatDoesNotSayWhereItStarts(LateFusion):
    """Late fusion, which starts at the frozen vectors, without the trait."""

    traits = replace(LateFusion.traits, starts_frozen=False)


# Batch mates, padding, chance, state.


@breaks(rules.a_prediction_does_not_depend_on_batch_mates_or_padding, "p_clip", "the batch mates")
class PClipThatReadsABatchMate(PClip):
    """P-CLIP that adds the mean over the batch."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Adds it before layer 1."""
        if i == 1:
            tokens = replace(tokens, x=tokens.x + tokens.x.mean(dim=0, keepdim=True))
        return super().layer(side, i, tower, tokens)


@breaks(rules.a_prediction_does_not_depend_on_batch_mates_or_padding, "p_clip", "the padding|the batch mates")
class PClipThatReadsPadding(PClip):
    """P-CLIP that adds the mean over all positions, padding among them."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Adds it before layer 1."""
        if i == 1:
            tokens = replace(tokens, x=tokens.x + tokens.x.mean(dim=1, keepdim=True))
        return super().layer(side, i, tower, tokens)


@breaks(
    rules.a_prediction_does_not_depend_on_batch_mates_or_padding, "p_clip", "something else the second time"
)
class PClipThatDrawsAtPrediction(PClip):
    """P-CLIP with noise that does not stop after training."""

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """Noise on top."""
        pooled = tower.pool(tokens)
        return pooled + torch.randn_like(pooled)


@breaks(rules.save_and_load_are_exact_and_strict, "coop", "state outside the checkpoint")
class CoopWithStateOutside(Coop):
    """CoOp with a random vector that is in no checkpoint."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        self.secret = torch.randn(shape.joint)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """The secret on top."""
        return tower.pool(tokens) + self.secret


@breaks(rules.save_and_load_are_exact_and_strict, "p_clip", "may be missing unnoticed")
class PClipThatForgivesWhatIsMissing(PClip):
    """P-CLIP that loads what it finds."""

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        before = list(args[4])
        super()._load_from_state_dict(*args, **kwargs)
        args[4][:] = before


# Geometry, counts, sides.


@breaks(rules.it_works_on_unequal_towers_and_single_samples, "p_clip", "out of bounds")
class PClipThatNeedsEqualTowers(PClip):
    """P-CLIP that counts text layers from the image tower's end."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Right where both are equally deep."""
        if side == "image":
            return super().layer(side, i, tower, tokens)
        assert self.text_prompts is not None
        late = self.shape.image.depth - self.shape.text.depth
        return tower.layer(i, tower.put(tokens, self.text_prompts[i + late]))


@breaks(rules.it_works_on_unequal_towers_and_single_samples, "p_clip", "more than 1 value per channel")
class PClipWithBatchStatistics(PClip):
    """P-CLIP with a batch norm after it, which cannot train on one sample."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        self.norm = nn.BatchNorm1d(shape.joint)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """Normalised over the batch."""
        normed: Tensor = self.norm(tower.pool(tokens))
        return normed


@breaks(rules.the_parameter_count_equals_its_formula, "mitp", "counts otherwise")
class MitpThatMiscounts(Mitp):
    """MITP that forgets the bias of its first map."""

    @classmethod
    def parameter_count(cls, shape: Shape, settings: Any) -> int:
        """Too few."""
        return super().parameter_count(shape, settings) - shape.image.width


@breaks(rules.one_side_equals_the_pair_or_is_refused, "p_clip", "texts alone")
class PClipThatTalksInSecret(PClip):
    """P-CLIP that adds the image's vector to the text's, and is not called coupled."""

    def pair_vectors(self, backbone: Backbone, pair: Pair) -> tuple[Tensor, Tensor]:
        """Adds it."""
        image, text = super().pair_vectors(backbone, pair)
        return image, text + image


# Before the first layer.


@breaks(
    rules.nothing_happens_in_front_of_the_first_layer,
    "mitp",
    "image layer 0 of 1 in front is computed for a gradient",
)
class MitpThatBeginsEarlier(Mitp):
    """MITP whose prompts enter before a layer that precedes the one called the first."""

    def pair_layer(self, step: Step, backbone: Backbone, pair: Pair) -> Pair:
        """Something on layer 0."""
        if step.image == 0:
            pair = Pair(backbone.image.put(pair.image, self.first_image(self.text_prompts[0])), pair.text)  # type: ignore[misc]
            after = super().pair_layer(step, backbone, pair)
            return Pair(backbone.image.drop(after.image), after.text)
        return super().pair_layer(step, backbone, pair)


@breaks(rules.nothing_happens_in_front_of_the_first_layer, "epic", "is computed for a gradient")
class EpicThatComputesForAGradientInFront(Epic):
    """EPIC whose tokens ask for a gradient from the embedding on; their values are the bare ones."""

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """Hangs the tokens on the graph."""
        tokens = super().embed(side, tower, inputs, route)
        return replace(tokens, x=tokens.x + 0 * self.image_prompts.sum())


@breaks(rules.nothing_happens_in_front_of_the_first_layer, "pmf", "once, in order")
class PmfThatRunsAFrontLayerTwice(Pmf):
    """PMF that runs a layer in front once more than the walk."""

    def pair_layer(self, step: Step, backbone: Backbone, pair: Pair) -> Pair:
        """Layer 0 of the image tower twice."""
        if step.image == 0:
            backbone.image.layer(0, pair.image)
        return super().pair_layer(step, backbone, pair)


@breaks(rules.nothing_happens_in_front_of_the_first_layer, "p_clip", "which is said to be the first")
class PClipThatIsLaterThanItSays(PClip):
    """P-CLIP that calls layer 0 its first and begins at layer 1: the front could have been kept."""

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Nothing on layer 0."""
        return super().layer(side, i, tower, tokens) if i else tower.layer(i, tokens)


@breaks(rules.starting_behind_the_front_layers_is_the_whole_walk, "mitp", "come out otherwise")
class MitpThatReadsTheEmbedding(Mitp):
    """MITP that changes the embedding though its first layer comes later."""

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """Twice as large."""
        tokens = super().embed(side, tower, inputs, route)
        return replace(tokens, x=tokens.x * 2)


# What it says of itself.


@breaks(rules.it_says_what_it_is, "p_clip", "has no docstring")
class PClipWithoutWords(PClip):
    def first_layer(self, side: Side) -> int:
        return super().first_layer(side)


@breaks(rules.it_says_what_it_is, "coop", "exceed")
class CoopThatReservesTooLittle(Coop):
    """CoOp whose captions may be longer than its context leaves room for."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        self.traits = Traits()


class SettingsThatAreSearchedForWhatIsNot(PClipSettings):
    __doc__ = PClipSettings.__doc__
    ranges: ClassVar[Ranges] = {**PClipSettings.ranges, "width": PClipSettings.ranges["length"]}


@breaks(rules.it_says_what_it_is, "p_clip", "a range for no setting")
class PClipThatSearchesWhatIsNot(PClip):
    """P-CLIP with a range for a setting that it does not have."""

    Settings = SettingsThatAreSearchedForWhatIsNot


@breaks(rules.it_says_what_it_is, "p_clip", "trains no parameters")
class PClipThatIsNoProbe(PClip):
    """P-CLIP that claims to need no training."""

    traits = Traits(solver=Nothing())


@dataclass(frozen=True)
class UndocumentedSettings(MethodSettings):
    """Settings of a method, and nothing of what they mean."""

    length: int = 2
    depth: int = 3
    sides: str = "both"
    start: str = "paper"

    @property
    def prompted(self) -> tuple[Side, ...]:
        """Both."""
        return "image", "text"


@breaks(rules.it_says_what_it_is, "p_clip", "the setting length is not documented")
class PClipWithUndocumentedSettings(PClip):
    """P-CLIP whose settings are not explained."""

    Settings = UndocumentedSettings
