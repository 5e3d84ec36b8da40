"""What a machine can be like: encodings, plotting backends, full disks, arguments that are no text."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from .conftest import World
from .judge import LONGEST, Tally


def called(
    tally: Tally,
    words: list[object],
    environment: Mapping[str, str] | None = None,
    *,
    room: int | None = None,
    must: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """Call the command line in a process of its own.

    Args:
        words: what is typed; bytes as they are.
        environment: changes to the environment.
        room: bytes that a file may have, as on a full disk.
        must: `refused` or `taken`.
    """
    what = f"interplay {words} {environment or ''}"
    typed = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    code = "import sys; from interplay.cli import main; sys.exit(main())"
    tally.counts["tried"] += 1

    def less_room() -> None:
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run(
        [sys.executable.encode(), b"-W", b"ignore::SyntaxWarning", b"-c", code.encode(), *typed],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        check=False,
        timeout=120,
        preexec_fn=less_room,
        stdin=subprocess.DEVNULL,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith(b"interplay: ")]
    if done.returncode not in (0, 2) or b"Traceback" in done.stderr:
        tally.fail("traceback", what, f"exit code {done.returncode}: {done.stderr[-900:]!r}")
    elif must and (must == "refused") != bool(done.returncode):
        tally.fail("silent", what, f"exit code {done.returncode}: {done.stderr[-300:]!r}")
    elif done.returncode and (len(told) != 1 or len(told[0].decode(errors="replace")) > LONGEST):
        tally.fail("message", what, repr(done.stderr[-900:]))
    tally.counts["refused" if done.returncode else "taken"] += 1
    return done


def test_arguments_that_are_no_utf8(world: World, tally: Tally) -> None:
    called(tally, ["data", "show", b"caf\xe9.csv"], must="refused")
    tally.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "utf-16"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"MPLBACKEND": "module://none.such"},
        {"MPLBACKEND": "TkAgg"},
        {"MPLCONFIGDIR": "/proc/nowhere"},
        {"HOME": "/nowhere"},
        {"HOME": ""},
        {"TMPDIR": "/nowhere"},
        {"TERM": "dumb", "COLUMNS": "0"},
        {"COLUMNS": "x"},
        {"INTERPLAY_CACHE": "/proc/nowhere"},
        {"INTERPLAY_CACHE": ""},
    ],
    ids=str,
)
def test_environments(environment: dict[str, str], world: World, tmp_path: Path, tally: Tally) -> None:
    for words in (
        ["evaluate", world.run, "--risk-coverage", tmp_path / "risk.png"],
        ["plots", world.retriever, "--out", tmp_path / "plots"],
        ["train", "--help"],
    ):
        called(tally, words, environment)
    tally.check()


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 3_000, 60_000])
def test_full_disks(room: int, world: World, tmp_path: Path, tally: Tally) -> None:
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(world.picture.read_bytes())
    train = ["--data", world.toy, "--no-progress", "--epochs", 1, "--out"]
    for at, words in enumerate(
        (
            ["train", *train],
            ["train", "--method", "text_probe", *train],
            ["tune", "--minutes", 0.2, "--trials", 1, *train],
            ["compare", "--methods", "text_probe", *train],
            [
                "continual",
                "--method",
                "lpi-p",
                "--set",
                "depth=2",
                "rank=2",
                *train[:1],
                world.stream,
                *train[2:],
            ],
            ["data", "show", world.toy, "--overwrite", "--out"],
            ["predict", world.run, "--table", world.toy, "--out"],
            ["index", world.retriever, "--images", world.folder / "stream", "--no-progress", "--gallery"],
        )
    ):
        place: Path = (
            sheet if words[0] == "data" else tmp_path / (f"{at}.csv" if words[0] == "predict" else str(at))
        )
        called(tally, [*words, place], room=room)
    assert sheet.read_bytes() == world.picture.read_bytes() or sheet.read_bytes().startswith(b"\x89PNG")
    tally.check()


@pytest.mark.slow
def test_streams_that_are_closed(world: World, tally: Tally) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from interplay.cli import main; sys.exit(main(['methods']))"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    tally.counts["tried"] += 1
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
