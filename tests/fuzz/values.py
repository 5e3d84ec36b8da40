"""Values that options are given: what nobody means, and what a shell or another program hands over by mistake."""

from __future__ import annotations

from pathlib import Path

NUMBERS = (
    "",
    " ",
    "x",
    "-1",
    "0",
    "1.5",
    "1e3",
    "1e400",
    "nan",
    "-inf",
    "0x10",
    "1_0",
    "１",
    "9" * 20,
    "9" * 5000,
    "-" + "9" * 400,
    "[1]",
    "{}",
    "null",
    "true",
    "1 2",
    "\0",
    "\udcff",
)
"""For an option that takes a number; all but 0, 1e3, 1_0 and １ can be no count at all."""
WORDS = (
    "",
    " ",
    "\n",
    "\0",
    "a\0b",
    "\udcff",
    "a\udc80/b",
    "{}{}",
    "%s%n",
    "[",
    "{",
    "!!python/object:os.system",
    "&a [*a]",
    "- x",
    "null",
    "123",
    "=",
    "a=",
    "=b",
    "a=b=c",
    "-",
    "--",
    "---",
    "~",
    ".",
    "..",
    "/",
    "//",
    "a//b",
    "a/b/c/d",
    "http://",
    "http://[",
    "http://localhost:99999",
    "file:///etc/passwd",
    "C:\\x\\y",
    "x" * 300,
    "x" * 5000,
    "x/" * 3000,
    "\U0001f34e",
    "\u202egnp.exe",
    "e\u0301",
    "'; drop table x; --",
    "$(true)",
    "*",
)
"""For an option that takes text: a name, a path, a filter."""


def places(folder: Path) -> list[Path]:
    """Files and folders that are there but not what anyone wants."""
    folder.mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "empty-folder").mkdir()
    (folder / "binary").write_bytes(bytes(range(256)) * 8)
    (folder / "zeros").write_bytes(bytes(4096))
    (folder / "utf-16").write_text("image,text,label\n", encoding="utf-16")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    import os

    os.mkfifo(folder / "fifo")
    return [
        *sorted(folder.iterdir()),
        Path("/dev/null"),
        Path("/dev/zero"),
        Path("/dev/full"),
        Path("/proc/self/mem"),
    ]
