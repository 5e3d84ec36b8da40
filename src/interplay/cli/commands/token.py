"""`interplay token`: a token for a service, of which only the hash is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from interplay.cli.result import Result

GROUP = "Serve"


def token(
    file: str, *, user: str, may: Literal["use", "manage"] = "use", models: tuple[str, ...] = ()
) -> Result:
    """Make a token for 'interplay serve --token-file FILE', and add its hash to the file.

    Examples:

      interplay token tokens.txt --user shop --models mitp emoji
      interplay token tokens.txt --user operator --may manage

    The token is shown once: the file holds its SHA-256 alone. To withdraw it, delete its line. The service reads the
    file when it starts.

    Args:
        file: of hashes; it is made where there is none.
        user: a name for logs and rates: letters, digits, dots and dashes.
        may: `use` models, or `manage` too: load, unload, and change galleries.
        models: names of the runs that may be asked; by default every one.
    """
    from interplay.service.tokens import new_token

    made = new_token(Path(file), user, may, models)
    return Result(
        {"token": made, "user": user, "may": may, "models": list(models) or ["*"], "file": file},
        f"{made}\n\nSend it as the header 'Authorization: Bearer TOKEN'. It is shown only now.",
    )
