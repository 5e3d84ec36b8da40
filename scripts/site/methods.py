"""A page for each method, written from its file by griffe: nothing is imported, torch least."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import griffe

import interplay
from interplay.methods.catalogue import Entry, catalogue
from scripts.site.docstrings import SeveralNames

SOURCE = Path(interplay.__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """A field of a method's settings.

    Attributes:
        name: of the field.
        takes: its type, with the names of types resolved to their choices.
        default: as code.
        meaning: its line in the docstring.
    """

    name: str
    takes: str
    default: str
    meaning: str


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


def settings(name: str) -> list[Setting]:
    """The settings of a method in the order of their definition."""
    found = _class(_package()[f"methods.{name}"], "MethodSettings")
    if found is None:
        return []
    meanings = _meanings(found)
    return [
        Setting(field.name, _choices(field), str(field.value), meanings.get(field.name, ""))
        for field in found.attributes.values()
        if field.annotation is not None and "instance-attribute" in field.labels
    ]


def _meanings(owner: griffe.Class) -> dict[str, str]:
    """What a docstring says of each attribute."""
    sections = owner.docstring.parsed if owner.docstring else []
    return {
        one.name: one.description
        for section in sections
        if section.kind is griffe.DocstringSectionKind.attributes
        for one in section.value
    }


def _choices(field: griffe.Attribute) -> str:
    """The type of a field; where its name stands for a list of choices, the list."""
    annotation = field.annotation
    if isinstance(annotation, griffe.ExprName):
        path = annotation.canonical_path.removeprefix("interplay.")
        meant = _package()[path] if annotation.canonical_path.startswith("interplay.") else None
        if isinstance(meant, griffe.Attribute | griffe.Alias):
            return str(meant.value)
    return str(annotation)


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
    found = settings(name)
    if not found:
        return "None.\n"
    rows = [
        f"| `{one.name}` | `{_cell(one.default)}` | `{_cell(one.takes)}` | {_cell(one.meaning)} |"
        for one in found
    ]
    return "\n".join(["| setting | default | takes | what it is |", "|---|---|---|---|", *rows]) + "\n"


def _variants(entry: Entry) -> str:
    if not entry.variants:
        return ""
    lines = [
        f"- `{name}`: " + ", ".join(f"`{key}={value}`" for key, value in values.items())
        for name, values in entry.variants.items()
    ]
    listed = "\n".join(lines)
    return f"\n## Variants\n\nNamed settings, for `--method` and `Classifier(…, method=…)`:\n\n{listed}\n"


def page(entry: Entry) -> str:
    """The page of a method: paper, definition and deviations, settings, variants, parameters."""
    module = _package()[f"methods.{entry.name}"]
    method = _class(module, "Method")
    assert method is not None
    assert module.docstring is not None
    title, _, more = module.docstring.value.partition("\n")
    count = method.members.get("parameter_count")
    counted = f"\n## Trained parameters\n\n{_prose(count)}\n" if count is not None and count.docstring else ""
    coupled = (
        "Image and text of a pair are encoded together."
        if entry.coupled
        else ("Image and text are encoded apart, so it can be used for retrieval.")
    )
    return f"""# {entry.name}

{title}{more}

Trained {entry.trained}. {coupled}

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
