"""Settings under which a method would train nothing, or leave no room for words, are refused."""

from __future__ import annotations

from typing import Any

import pytest

from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("s_prompts", {"text_length": 38}),
        ("lpi-m", {"text_positions": True, "length": 38}),
        ("coop", {"length": 38}),
        ("cocoop", {"length": 38, "init": ""}),
    ],
)
def test_prompts_leave_room_for_a_word(name: str, settings: dict[str, Any], backbone: Backbone) -> None:
    with pytest.raises(InterplayError, match=f"'{name}' takes 38 of the 40 positions"):
        choose(name).build(backbone.shape, settings)
    shorter = {key: 37 if value == 38 else value for key, value in settings.items()}
    assert choose(name).build(backbone.shape, shorter).traits.reserve == 37


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mitp", {"length": 1}),
        ("mitp", {"length": 1, "similarity_shape": "pair", "similarity": "mmd"}),
        ("mitp", {"length": 1, "similarity_shape": "channel", "similarity": "cov-pearson"}),
        ("epic", {"length": 1}),
    ],
)
def test_one_token_has_nothing_to_be_weighed_against(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InterplayError, match="length >= 2"):
        choose(name).settings(settings)
    assert choose(name).settings({**settings, "length": 2}).length == 2


def test_one_token_is_enough_without_the_hub_and_by_channels() -> None:
    assert choose("mitp-naive").settings({"length": 1}).length == 1
    assert choose("mitp").settings({"length": 1, "similarity_shape": "channel"}).length == 1


def test_lora_of_no_weight_is_refused() -> None:
    with pytest.raises(InterplayError, match="alpha >= 1"):
        choose("lora").settings({"alpha": 0})


@pytest.mark.parametrize(
    ("hidden", "trained", "share"), [(168, 614_992, 0.14), (554, 1_999_188, 0.47), (1_189, 4_276_298, 1.0)]
)
def test_epic_s_share_of_vit_l14_is_what_its_settings_say(hidden: int, trained: int, share: float) -> None:
    """The abstract says "about 1 %" and no more."""
    choice, shape = choose("epic"), PRESETS["clip-vit-large-patch14"]
    assert choice.method.parameter_count(shape, choice.settings({"hidden": hidden})) == trained
    assert 100 * trained / 427_616_513 == pytest.approx(share, abs=0.005)
