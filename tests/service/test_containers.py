"""Dockerfile and compose file, read as their parsers do, since no daemon is asked; and what they run exists."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from interplay.cli.commands.serve import serve

ROOT = Path(__file__).parents[2]
KNOWN = {
    *(
        "FROM",
        "RUN",
        "CMD",
        "LABEL",
        "EXPOSE",
        "ENV",
        "ADD",
        "COPY",
        "ENTRYPOINT",
        "VOLUME",
        "USER",
        "WORKDIR",
    ),
    *("ARG", "STOPSIGNAL", "HEALTHCHECK", "SHELL"),
}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and their arguments; comments are left out, broken lines joined.

    Raises:
        ValueError: a line that is no instruction.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name not in KNOWN or not rest.strip():
            raise ValueError(line)
        found.append((name, rest.strip()))
    return found


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    return instructions((ROOT / "Dockerfile").read_text("utf-8"))


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def test_a_line_that_is_no_instruction_is_found() -> None:
    with pytest.raises(ValueError, match="FORM"):
        instructions("FORM python\n")
    assert instructions("RUN a \\\n    && b  \n") == [("RUN", "a && b")]


def test_the_dockerfile_copies_what_is_there_and_runs_as_nobody_special(
    dockerfile: list[tuple[str, str]],
) -> None:
    assert dockerfile[0][0] == "FROM"
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] == "!"}
    for name, rest in dockerfile:
        if name == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in kept, f"{source} is ignored"
        if name in {"CMD", "ENTRYPOINT", "VOLUME"}:
            assert isinstance(json.loads(rest), list)
    order = [name for name, _ in dockerfile]
    assert order.index("USER") > max(at for at, name in enumerate(order) if name == "RUN")
    assert dict(dockerfile)["USER"] not in {"root", "0"}


def test_the_composition_names_only_what_it_has_and_mounts_the_tokens(compose: Any) -> None:
    service, milvus = compose["services"]["interplay"], compose["services"]["milvus"]
    assert set(service["depends_on"]) <= set(compose["services"])
    assert set(service["secrets"]) <= set(compose["secrets"])
    assert {one["source"] for one in milvus["configs"]} <= set(compose["configs"])
    assert {one.split(":")[0] for one in milvus["volumes"]} <= set(compose["volumes"])
    assert "ports" not in milvus  # only the service asks it
    assert re.search(r":v\d+\.\d+\.\d+$", milvus["image"])
    yaml.safe_load(compose["configs"]["etcd"]["content"])
    assert milvus["healthcheck"]["test"][0] == "CMD"


def test_both_run_the_command_with_options_that_it_has(
    dockerfile: list[tuple[str, str]], compose: Any
) -> None:
    known = {f"--{name.replace('_', '-')}" for name in inspect.signature(serve).parameters}
    for words in (json.loads(dict(dockerfile)["CMD"]), compose["services"]["interplay"]["command"]):
        assert words[0] == "serve"
        given = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
        assert {"--models", "--host", "--token-file"} <= given <= known
