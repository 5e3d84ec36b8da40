"""The command line: `interplay COMMAND …`. One file a command, in `interplay.cli.commands`."""

from interplay.cli.entry import main

__all__ = ["main"]
