"""Completion of commands and options in a shell: `interplay --install-completion`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cyclopts

from interplay.cli.command import commands
from interplay.cli.command_line import CommandLine
from interplay.errors import InterplayError, unknown

SHELLS: tuple[Literal["bash", "zsh", "fish"], ...] = ("bash", "zsh", "fish")


def whole_app() -> cyclopts.App:
    """All commands as one application, groups as applications within it."""
    root = cyclopts.App(name="interplay", version_flags=("--version",))
    for name, command in commands().items():
        *group, last = name.split()
        above = root
        for word in group:
            if word not in above:
                above.command(cyclopts.App(name=word))
            above = above[word]
        above.command(CommandLine.of(command).app(), name=last)
    return root


def install(arguments: Sequence[str]) -> str:
    """Write the completion of a shell to where the shell looks for it.

    Args:
        arguments: the name of the shell; without one, that which runs.

    Returns:
        What was done, in one sentence.

    Raises:
        InterplayError: a shell that there is no completion for.
    """
    from cyclopts.completion.detect import ShellDetectionError

    named = " ".join(arguments)
    shell = next((known for known in SHELLS if known == named), None)
    if named and shell is None:
        raise unknown("shell", named, SHELLS)
    try:
        file = whole_app().install_completion(shell=shell)
    except ShellDetectionError:
        raise InterplayError(
            "It cannot be seen which shell this is: name it, as in 'interplay --install-completion bash'."
        ) from None
    return f"The completion is in {file}: a new shell uses it."
