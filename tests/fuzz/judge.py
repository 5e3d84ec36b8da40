"""What may come of an input, whatever it is: success, or exit code 2 and one sentence of at most 400 characters."""

from __future__ import annotations

import contextlib
import io
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from interplay.cli import main
from interplay.errors import InterplayError

LONGEST = 400
"""Characters of a message, its `interplay: ` in front included."""
LIMIT = 20.0
"""Seconds after which an input hangs; each of them takes a fraction of one."""
QUICK_AND_WHOLE = pytest.mark.parametrize("every", [41, pytest.param(1, marks=pytest.mark.slow)])
"""A test takes a sample of its inputs, and all of them among the slow ones."""


def some(count: int, every: int) -> range:
    """Numbers from 0, all of them or every so manyth."""
    return range(every // 2, count, every)


class Hang(BaseException):
    """Time is up; no `except Exception` may swallow it."""


@dataclass
class Tally:
    """What was tried, and what came of it.

    Attributes:
        counts: `tried`, `taken`, `refused`, and the kinds of failures: `traceback` (another exception or exit code),
            `silent` (taken where it has to be refused, or the reverse), `hang`, `message` (no single sentence on
            stderr), `leftover` (a refused command left a new folder).
        failures: one line each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def fail(self, kind: str, what: str, told: str) -> None:
        """Note one failure."""
        self.counts[kind] += 1
        self.failures.append(f"{kind}: {what}: {told}")

    def command(
        self, words: Sequence[object], *, must: str = "", new: Path | None = None, limit: float = LIMIT
    ) -> None:
        """Call the command line in this process.

        Args:
            words: what is typed.
            must: `refused` or `taken` where only one of them is right.
            new: a file or folder that is not there, and must not be where the input was refused.
            limit: seconds.
        """
        typed = [str(word) for word in words]
        what = "interplay " + " ".join(_short(word) for word in typed)
        out, err = io.StringIO(), io.StringIO()
        self.counts["tried"] += 1
        try:
            with _within(limit), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(typed)
        except Hang:
            self.fail("hang", what, f"{limit:g} s were not enough")
            return
        except BaseException:  # SystemExit among them
            self.fail("traceback", what, _short(traceback.format_exc(limit=-3), 900))
            return
        if code not in (0, 2):
            self.fail("traceback", what, f"exit code {code}: {_short(err.getvalue())}")
            return
        self.counts["refused" if code else "taken"] += 1
        if must and (must == "refused") != bool(code):
            self.fail("silent", what, f"exit code {code}: {_short(out.getvalue() or err.getvalue())}")
        if code and (wrong := _not_one_sentence(out.getvalue(), err.getvalue())):
            self.fail("message", what, wrong)
        if code and new is not None and new.exists():
            self.fail("leftover", what, _short(str(sorted(new.rglob("*")) or new)))

    def call(self, what: str, function: Callable[[], Any], *, must: str = "", limit: float = LIMIT) -> None:
        """Call the Python API: it returns, or raises an `InterplayError` of one sentence."""
        self.counts["tried"] += 1
        try:
            with _within(limit), contextlib.redirect_stdout(io.StringIO()):
                function()
        except InterplayError as error:
            self.counts["refused"] += 1
            if must == "taken":
                self.fail("silent", what, f"refused: {error}")
            if len(str(error)) > LONGEST or not str(error).strip():
                self.fail("message", what, f"{len(str(error))} characters: {_short(str(error))}")
        except Hang:
            self.fail("hang", what, f"{limit:g} s were not enough")
        except BaseException:
            self.fail("traceback", what, _short(traceback.format_exc(limit=-3), 900))
        else:
            self.counts["taken"] += 1
            if must == "refused":
                self.fail("silent", what, "it was taken")

    def check(self) -> None:
        """Fail the test, with every failure."""
        assert not self.failures, f"{len(self.failures)} failures\n" + "\n".join(self.failures)


def _not_one_sentence(out: str, err: str) -> str:
    """What is wrong with the streams of a refused command; empty when nothing is."""
    told = [line for line in err.split("\n") if line.startswith("interplay: ")]
    if out:
        return f"stdout is not empty: {_short(out)}"
    if len(told) != 1 or not err.endswith(told[0] + "\n"):
        return f"no single sentence at the end of stderr: {_short(err)}"
    if "Traceback" in err:
        return "a traceback on stderr"
    if len(told[0]) > LONGEST:
        return f"{len(told[0])} characters: {_short(told[0])}"
    return ""


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `Hang` when time is up; a timer that ran before, as pytest-timeout's, goes on afterwards."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    handler = signal.signal(signal.SIGALRM, ring)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left)


def _short(text: str, most: int = 160) -> str:
    """A text in one line of visible characters, its middle left out where it is long."""
    line = ascii(text)[1:-1]
    return line if len(line) <= most else f"{line[: most // 2]} … {line[-most // 2 :]}"
