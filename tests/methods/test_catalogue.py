"""The list of the methods, which is read from their files, says what the classes say."""

from __future__ import annotations

from inspect import cleandoc

from interplay.methods.catalogue import ListedMethod, catalogue
from interplay.methods.registry import choices


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
