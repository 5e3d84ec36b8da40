"""BlindPrompt: PromptFuse with prompts that cannot see what they align (Liang et al., 2022)."""

from __future__ import annotations

from typing import ClassVar

from interplay.methods.prompt_fuse import PromptFuse


class BlindPrompt(PromptFuse):
    """The text tower reads [N prompts; picture; text], and the prompts attend to one another alone.

    Picture and text attend to the prompts, so these can encode how the modalities are aligned but nothing of the input
    (Findings of ACL 2022). All else, deviations and size included, is as in PromptFuse: the picture's row attends to
    everything, text rows stay causal. The mask is checked against one that is written row by row.
    """

    blind: ClassVar[bool] = True
