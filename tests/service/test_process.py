"""`interplay serve` as a process: it starts, ends cleanly, and shares its gallery with nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interplay import Retriever, load_backbone
from tests.lpi.toy import pairs, picture

from .conftest import classifier, encoded, uri

MAIN = "import sys; from interplay.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier and a retriever with its gallery, on the bundled backbone."""
    folder, tiny = tmp_path_factory.mktemp("process"), load_backbone("tiny")
    classifier(tiny, folder / "red", head={"kind": "pair"})
    retriever = Retriever(tiny, "linear_map")
    retriever.learn("one", pairs(1))
    retriever.save_pretrained(folder / "shop")
    retriever.index(texts=["a cat", "a dog"], uri=folder / "shop/gallery.db", progress=False).close()
    return folder


def command(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def address_of(process: subprocess.Popen[str]) -> str:
    """Where it answers, from the line that it says so in."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Serving "):
            return line.split(" at ")[1].split(";")[0]
    raise AssertionError(f"it ended with {process.wait()}")


def say(address: str, body: Any) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture
def process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    started = command("serve", "--models", folder, "--port", 0)
    yield started
    started.kill()
    started.communicate()


def test_it_answers_a_second_process_is_refused_and_sigterm_ends_it_with_its_requests(
    process: subprocess.Popen[str], folder: Path
) -> None:
    address = address_of(process)
    assert say(f"{address}/v1/search", {"model": "shop", "query": "a cat", "find": "text"})["found"]

    second = command("serve", "--models", folder, "--port", 0)
    _, said = second.communicate(timeout=120)
    assert second.returncode == 2
    assert "is open already" in said
    assert "Traceback" not in said

    pair = {"image": uri(encoded(picture(1, 90))), "text": "red"}
    answers: list[Any] = []

    def ask() -> None:
        answers.append(say(f"{address}/v1/classify", {"model": "red", "pairs": [pair] * 64}))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for one in asking:
        one.start()
    deadline = time.monotonic() + 60
    waiting = "interplay_waiting_items 0.0"
    while waiting in metrics(address) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    for one in asking:
        one.join()
    _, said = process.communicate(timeout=60)
    assert [len(answer["results"]) for answer in answers] == [64] * 4
    assert process.returncode == 0, said
    assert "Traceback" not in said
    with pytest.raises(OSError):  # noqa: PT011  # the port is free again
        urllib.request.urlopen(f"{address}/healthz", timeout=5)


def metrics(address: str) -> str:
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--models", "nowhere"), "There is no folder 'nowhere'"),
        (("--models", "{folder}", "--host", "0.0.0.0"), "Without tokens"),
        (("--models", "{folder}", "--preload", "rde"), "there is no run 'rde'"),
        (("--models", "{folder}", "--gallery", "shop"), "takes RUN=FOLDER"),
        (("--models", "{folder}", "--rate", "often"), "rate cannot be 'often'"),
        (("--models", "{folder}", "--token-file", "{folder}/red/config.json"), "line 1 is no token"),
        (("--models", "{folder}", "--most-waiting", "3"), "most_waiting must be at least"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from interplay.cli import main

    assert main(["serve", *(word.replace("{folder}", str(folder)) for word in words)]) == 2
    assert said in capsys.readouterr().err
