"""PromptFuse: a picture's vector and a few prompts at the input of a frozen text tower (Liang et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from interplay.methods.base import Method
from interplay.parts.fused_input import FusedInput, FusedInputSettings
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape, Side
from interplay.towers.walk import Order, Pair, Step


class PromptFuse(Method):
    """The text tower reads [N prompts; picture; text]; the prompts are all that is trained (Findings of ACL 2022).

    The picture is one token, the frozen image tower's pooled vector as it is. Prompts enter at the input alone and,
    like the picture's row, attend to everything, as in the paper's bidirectional language model; text rows stay
    causal.

    A reimplementation: our reading of the paper, without its code. Deviations: CLIP's text tower is the language model,
    and its end token, as the text vector, stands in for the mask token; the rows stand behind the start token, which
    cannot see them, and take no positions of the caption; the head is one of this library's, and may read the bare
    image vector too.
    """

    Settings: ClassVar[type[Any]] = FusedInputSettings
    coupled = True
    align: Order = "image_first"
    blind: ClassVar[bool] = False
    """Whether the prompts see one another alone."""

    def __init__(self, shape: Shape, settings: FusedInputSettings) -> None:
        super().__init__(shape, settings)
        self.input = FusedInput(shape, settings)

    def first_layer(self, side: Side) -> int:
        """The image tower is left alone; texts get their prompts in front of the first layer."""
        return self.shape.image.depth if side == "image" else 0

    def pair_layer(self, step: Step, backbone: Backbone, pair: Pair) -> Pair:
        """The layers are left alone, but for what stands in front of the first text layer."""
        return super().pair_layer(step, backbone, self.input.enter(step, backbone, pair, blind=self.blind))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Few prompts."""
        return {"length": 3}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: FusedInputSettings) -> int:
        """N·d_t, and (joint + 1)·d_t where the picture's vector is mapped: 15,360 at N = 20, d_t = joint = 768."""
        return FusedInput.parameter_count(shape, settings)
