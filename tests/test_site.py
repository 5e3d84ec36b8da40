"""The pages of the documentation site that are made from the code."""

from __future__ import annotations

import dataclasses
import re

import pytest

from interplay.methods.registry import choices, choose
from interplay.typed import in_code
from scripts.site import api, commands, docstrings, methods, offline


@pytest.mark.parametrize("name", methods.names())
def test_a_method_s_page_has_every_setting_with_its_default_and_a_meaning(name: str) -> None:
    rows = [line.split(" | ") for line in methods.pages()[name].splitlines() if line.startswith("| `")]
    shown = {row[0].strip("|` "): row[1:] for row in rows}
    fields = dataclasses.fields(choose(name).method.Settings)
    assert list(shown) == [field.name for field in fields]
    for field in fields:
        default, _, meaning = shown[field.name]
        assert default == f"`{in_code(field.default)}`"
        assert len(meaning.strip("| ")) > 3


def test_every_method_and_variant_is_on_a_page() -> None:
    pages = methods.pages()
    for name in choices():
        assert any(f"# {name}\n" in page or f"- `{name}`:" in page for page in pages.values()), name
        assert f"({name}.md)" in methods.overview() or name not in pages


def test_every_command_has_a_page_with_what_its_help_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "names", lambda: ["data list", "index"])
    pages = commands.pages()
    assert list(pages) == [
        "commands/index.md",
        "commands/interplay-data-list.md",
        "commands/interplay-index.md",
    ]
    assert "--json" in pages["commands/interplay-index.md"]
    assert "Add pictures and texts to the gallery" in pages["commands/index.md"]


def test_the_api_has_every_public_name_and_every_module() -> None:
    import interplay

    pages = api.pages()
    assert set(api.public()) == set(interplay.__all__)
    listed = set(re.findall(r"^::: (\S+)$", "\n".join(pages.values()), re.MULTILINE))
    assert {"interplay.Classifier", "interplay.methods.mitp", "interplay.errors"} <= listed


def test_an_entry_about_several_names_is_read_as_one_for_each() -> None:
    several = "Args:\n    a, b: numbers,\n        whole ones.\n    c: another."
    each = (
        "Args:\n    a: numbers,\n        whole ones.\n    b: numbers,\n        whole ones.\n    c: another."
    )
    assert docstrings.one_each(several) == each


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<link href="https://example.org/x.woff" rel=preload>',
        "<style>@import url(https://example.org/x.css);</style>",
        '<img alt="" src="https://example.org/x.png">',
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(tag: str) -> None:
    assert len(offline.loaded_from_elsewhere(f'<a href="https://example.org">there</a>{tag}')) == 1
    assert not offline.loaded_from_elsewhere('<a href="https://example.org">there</a><img src="here.png">')
