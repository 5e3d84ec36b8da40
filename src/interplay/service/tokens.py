"""Who may ask which models: tokens of which a file holds the hashes alone."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interplay.errors import InterplayError
from interplay.files import read_text, write_text
from interplay.service.faults import Forbidden, NoSuch, Unauthorized

Right = Literal["use", "manage"]
EVERY = "*"
_LINE = re.compile(
    r"(?P<user>[\w.-]+) (?P<hash>[0-9a-f]{64}) (?P<right>use|manage) (?P<models>\S.*)", re.ASCII
)


@dataclass(frozen=True)
class Holder:
    """Who asks, and what for.

    Attributes:
        user: a name for logs and rates.
        models: names of those that may be asked; `*` for every one.
        right: `use` them, or `manage` too: load, unload and change.
    """

    user: str
    models: tuple[str, ...]
    right: Right

    def may(self, model: str) -> bool:
        """Whether a model may be asked."""
        return EVERY in self.models or model in self.models

    def check(self, model: str) -> None:
        """Refuse another one's model as if there were none.

        Raises:
            NoSuch: it may not be asked.
        """
        if not self.may(model):
            raise NoSuch(f"There is no model '{model}'.", "model")

    def check_manages(self) -> None:
        """Refuse who only uses models.

        Raises:
            Forbidden: so it is.
        """
        if self.right != "manage":
            raise Forbidden("This token may use models, not load, unload or change them.")


ANYONE = Holder("local", (EVERY,), "manage")
"""Who asks on the loopback address where there are no tokens."""
NOBODY = Holder("nobody", (), "use")
"""Who asks without a token for what needs none."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a service.

    Attributes:
        holders: by the SHA-256 of their tokens, in hexadecimal. A token is 256 random bits, so that a plain hash of it
            cannot be turned back by trying.
    """

    holders: tuple[tuple[str, Holder], ...]

    @classmethod
    def read(cls, file: Path) -> Tokens:
        """The tokens of a file: one a line, `USER SHA256 use|manage MODEL,MODEL`, `*` for every model.

        Raises:
            InterplayError: it cannot be read, a line is none of that kind, or there is no token in it.
        """
        holders = []
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.rstrip())
            if found is None:
                raise InterplayError(
                    f"{file}, line {number} is no token: write USER SHA256 use|manage MODEL,MODEL, or let "
                    "'interplay token' do it."
                )
            right: Right = "manage" if found["right"] == "manage" else "use"
            models = tuple(name.strip() for name in found["models"].split(","))
            holders.append((found["hash"], Holder(found["user"], models, right)))
        if not holders:
            raise InterplayError(f"{file} holds no token: make one by 'interplay token {file} --user NAME'.")
        return cls(tuple(holders))

    def holder(self, authorization: str | None) -> Holder:
        """Who sent a header `Authorization: Bearer TOKEN`.

        Every hash is compared, each in constant time.

        Raises:
            Unauthorized: there is no such header, or no such token.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("Send the header 'Authorization: Bearer TOKEN'.")
        asked, found = digest(token.strip()), None
        for known, holder in self.holders:
            if hmac.compare_digest(known, asked):
                found = holder
        if found is None:
            raise Unauthorized("This token is not known here.")
        return found


def digest(token: str) -> str:
    """SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_token(file: Path, user: str, right: Right, models: Sequence[str]) -> str:
    """A token that is not known yet, whose hash is added to a file.

    Raises:
        InterplayError: a name that a line cannot hold, or a file that cannot be read or written.
    """
    token = secrets.token_urlsafe(32)
    line = f"{user} {digest(token)} {right} {','.join(models) or EVERY}"
    if not _LINE.fullmatch(line) or any("," in name for name in models):
        raise InterplayError(
            "A token's user is letters, digits, dots and dashes, and no model's name holds a comma: choose others."
        )
    before = read_text(file) if file.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    write_text(file, f"{before}{line}\n")
    file.chmod(0o600)
    return token
