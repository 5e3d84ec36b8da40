"""A page for each method, written from its file by griffe: nothing is imported, torch least."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import griffe

import interplay
from interplay.methods.catalogue import ListedMethod, catalogue
from interplay.methods.settings_text import settings_of
from interplay.typed import in_code, in_words
from scripts.site.docstrings import SeveralNames

SOURCE = Path(interplay.__file__).parents[1]


def names() -> list[str]:
    """The methods, by file name."""
    return [entry.name for entry in catalogue()]


@cache
def _package() -> griffe.Module:
    package = griffe.load(
        "interplay",
        search_paths=[SOURCE],
        allow_inspection=False,
        docstring_parser=griffe.Parser.google,
        extensions=griffe.load_extensions(SeveralNames),
    )
    assert isinstance(package, griffe.Module)
    return package


def _class(module: griffe.Module, base: str) -> griffe.Class | None:
    """The class of a module that names another one as its base."""
    return next((found for found in module.classes.values() if base in [str(b) for b in found.bases]), None)


def _prose(owner: griffe.Object | griffe.Alias) -> str:
    """A docstring as paragraphs: its text, and what it raises."""
    parts = []
    for section in owner.docstring.parsed if owner.docstring else []:
        if section.kind is griffe.DocstringSectionKind.text:
            parts.append(section.value)
        if section.kind is griffe.DocstringSectionKind.raises:
            parts += [f"Refused with `{one.annotation}`: {one.description}" for one in section.value]
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _settings_table(name: str) -> str:
    found = settings_of(name)
    if not found:
        return "None.\n"
    rows = [
        f"| `{one.name}` | `{_cell(in_code(one.default))}` | {_cell(in_words(one.hint))} | {_cell(one.help)} |"
        for one in found
    ]
    return "\n".join(["| setting | default | takes | what it is |", "|---|---|---|---|", *rows]) + "\n"


def _variants(entry: ListedMethod) -> str:
    if not entry.variants:
        return ""
    lines = [
        f"- `{name}`: " + ", ".join(f"`{key}={value}`" for key, value in values.items())
        for name, values in entry.variants.items()
    ]
    listed = "\n".join(lines)
    return f"\n## Variants\n\nNamed settings, for `--method` and `Classifier(…, method=…)`:\n\n{listed}\n"


def page(entry: ListedMethod) -> str:
    """The page of a method: paper, definition and deviations, settings, variants, parameters."""
    module = _package()[f"methods.{entry.name}"]
    method = _class(module, "Method")
    assert method is not None
    assert module.docstring is not None
    title, _, more = module.docstring.value.partition("\n")
    count = method.members.get("parameter_count")
    counted = f"\n## Trained parameters\n\n{_prose(count)}\n" if count is not None and count.docstring else ""
    manner = "together, as a pair" if entry.coupled else "apart"
    return f"""# {entry.name}

{title}{more}

Trained {entry.trained}. Image and text are encoded {manner}.

## Definition

{_prose(method)}

## Settings

{_settings_table(entry.name)}{_variants(entry)}{counted}
Code: `{Path(str(module.filepath)).relative_to(SOURCE.parent).as_posix()}`,
[`{method.path}`][{method.path}].
"""


def pages() -> dict[str, str]:
    """All pages by the names of their methods."""
    return {entry.name: page(entry) for entry in catalogue()}


def overview() -> str:
    """A list of all methods, each with its page."""
    rows = [
        f"| [`{one.name}`]({one.name}.md) | {_cell(one.summary)} | {one.trained} |" for one in catalogue()
    ]
    return (
        "\n## Every method\n\n"
        + "\n".join(["| method | what it does | trained |", "|---|---|---|", *rows])
        + "\n"
    )
