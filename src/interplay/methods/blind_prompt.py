"""BlindPrompt: PromptFuse with prompts that cannot see what they align (Liang et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from interplay.methods.base import Method
from interplay.parts.fused_input import FusedInput, FusedInputSettings
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape, Side
from interplay.towers.walk import Order, Pair, Step


class BlindPrompt(Method):
    """The text tower reads [N prompts; picture; text], and the prompts attend to one another alone.

    Picture and text attend to the prompts, so these can encode how the modalities are aligned but nothing of the input
    (Findings of ACL 2022). All else is as in PromptFuse: the picture's row attends to everything, text rows stay
    causal.

    A reimplementation, with the deviations of PromptFuse. The mask is checked against one that is written row by row.
    """

    Settings: ClassVar[type[Any]] = FusedInputSettings
    coupled = True
    align: Order = "image_first"

    def __init__(self, shape: Shape, settings: FusedInputSettings) -> None:
        super().__init__(shape, settings)
        self.input = FusedInput(shape, settings)

    def first_layer(self, side: Side) -> int:
        """The image tower is left alone; texts get their prompts in front of the first layer."""
        return self.shape.image.depth if side == "image" else 0

    def pair_layer(self, step: Step, backbone: Backbone, pair: Pair) -> Pair:
        """The layers are left alone, but for what stands in front of the first text layer."""
        return super().pair_layer(step, backbone, self.input.enter(step, backbone, pair, blind=True))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Few prompts."""
        return {"length": 3}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: FusedInputSettings) -> int:
        """N·d_t, and (joint + 1)·d_t where the picture's vector is mapped: 15,360 at N = 20, d_t = joint = 768."""
        return FusedInput.parameter_count(shape, settings)
