"""The list of the methods, which is read from their files, says what the classes say."""

from __future__ import annotations

from inspect import cleandoc

import pytest

from interplay.cli.options import options_of
from interplay.errors import InterplayError
from interplay.methods.catalogue import ListedMethod, catalogue
from interplay.methods.registry import choices
from interplay.methods.settings_text import Setting, head_settings, settings_of
from interplay.parts.heads import HeadSettings


def test_what_is_read_from_the_files_is_what_the_classes_say() -> None:
    found = catalogue()
    assert found == [
        ListedMethod(
            name=name,
            summary=cleandoc(choice.method.__doc__ or "").split("\n")[0],
            trained=choice.method.traits.solver.words,
            coupled=choice.method.traits.coupled,
            variants={variant: dict(preset) for variant, preset in choice.method.Settings.variants.items()},
        )
        for name, choice in choices().items()
        if name not in choice.method.Settings.variants
    ]
    assert {entry.trained for entry in found} == {
        "by gradient",
        "in closed form",
        "logistic regression",
        "not at all",
    }
    assert {entry.coupled for entry in found} == {True, False}
    assert sum(len(entry.variants) for entry in found) > 10


def test_the_settings_that_are_read_from_the_files_are_those_of_the_classes() -> None:
    def told(kind: type, values: object) -> list[Setting]:
        return [Setting(o.name, o.hint, o.default, o.help) for o in options_of(kind, defaults=values)]

    for name, choice in choices().items():
        assert settings_of(name) == told(choice.method.Settings, choice.settings()), name
    assert head_settings() == told(HeadSettings, HeadSettings())
    assert len(settings_of("mitp")) > 10


def test_settings_of_no_method_are_refused() -> None:
    with pytest.raises(InterplayError, match="Did you mean 'mitp'"):
        settings_of("mipt")
