"""What is typed, in any order, and what `--help` and `--quiet` do with it."""

from __future__ import annotations

import io
import re
import sys
from itertools import permutations
from pathlib import Path
from typing import get_args

import pydantic  # noqa: F401  (the parser asks it, where it is loaded)
import pytest

from interplay.cli.command import Command, commands
from interplay.cli.command_line import CommandLine
from interplay.cli.completion import SHELLS
from interplay.cli.result import Result, note
from interplay.errors import LONGEST, InterplayError, brief, unknown
from interplay.parts.heads import Kind
from interplay.training.settings import PATIENCE, UPDATES

from .conftest import Run


@pytest.mark.parametrize("parts", list(permutations((["runs/lpi"], ["-k", "5"], ["--find", "text"]))))
def test_what_is_given_by_its_place_stands_anywhere(parts: tuple[list[str], ...]) -> None:
    line = CommandLine.of(commands()["search"])
    words = [word for part in parts for word in part]
    for at in range(words.index("runs/lpi") + 1, len(words) + 1):
        if words[at - 1] in ("-k", "--find"):
            continue
        found, _ = line.parse([*words[:at], "a red apple", *words[at:]])
        assert {key: found[key] for key in ("run", "query", "k", "find")} == {
            "run": "runs/lpi",
            "query": "a red apple",
            "k": 5,
            "find": "text",
        }


def test_several_values_end_at_the_next_option() -> None:
    line = CommandLine.of(commands()["index"])
    found, manner = line.parse(["--images", "a", "b", "--json", "runs/lpi", "--texts=c"])
    assert (found["run"], found["images"], found["texts"]) == ("runs/lpi", ["a", "b"], "c")
    assert (manner.json, manner.quiet) == (True, False)


@pytest.mark.parametrize("query", ["-5", "-5 degrees", "- a dash"])
def test_what_begins_with_a_dash_is_no_option_unless_it_looks_like_one(query: str) -> None:
    found, _ = CommandLine.of(commands()["search"]).parse(["run", "-k", "3", query])
    assert (found["query"], found["k"]) == (query, 3)


@pytest.mark.parametrize("words", [["a", "b", "-k", "5"], ["a", "-k", "5", "b"], ["-k", "5", "a", "b"]])
def test_several_values_by_place_stand_anywhere(words: list[str]) -> None:
    found, _ = CommandLine.of(commands()["plots"]).parse(words)
    assert ([*found["runs"]], found["k"]) == (["a", "b"], 5)


def test_of_an_option_given_twice_the_last_value_counts_and_lists_grow() -> None:
    line = CommandLine.of(commands()["train"])
    found, _ = line.parse(
        [
            "--data=a",
            "--data=b",
            "--out",
            "c",
            "--seed",
            "1",
            "--set",
            "a=1",
            "--no-progress",
            "--set",
            "b=2",
            "--seed=2",
        ]
    )
    assert (found["data"], found["set"]) == ("b", ["a=1", "b=2"])
    assert found["settings"] == {"seed": 2, "progress": False}


@pytest.mark.parametrize("name", commands())
def test_what_is_missing_is_told_whatever_else_was_imported(name: str) -> None:
    assert "pydantic" in sys.modules
    line = CommandLine.of(commands()[name])
    needed = [option.flag for option in line.own if option.required]
    if not needed:
        line.parse([])
        return
    with pytest.raises(InterplayError, match=f"needs {needed[0]}"):
        line.parse([])


def test_behind_two_dashes_nothing_is_an_option() -> None:
    found, _ = CommandLine.of(commands()["search"]).parse(["-k", "3", "run", "--", "--help"])
    assert (found["query"], found["k"]) == ("--help", 3)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("9" * 20, "a whole number"),
        ("9" * 5000, "a whole number"),
        ("1.5", "a whole number"),
        ("", "a whole number"),
    ],
)
def test_what_is_no_count_is_refused(value: str, told: str) -> None:
    with pytest.raises(InterplayError, match=told):
        CommandLine.of(commands()["search"]).parse(["run", "-k", value])


def test_a_configuration_file_may_have_any_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("- mine.yaml").write_text("k: 7\n")
    found, _ = CommandLine.of(commands()["search"]).parse(["run", "--config", "- mine.yaml"])
    assert found["k"] == 7
    assert "-- none.yaml cannot be read" in run("search", "run", "red", "--config", "-- none.yaml").err


@pytest.mark.parametrize("word", ["--help", "-h", "--help=true"])
def test_help_is_shown_whatever_else_is_wrong(word: str, run: Run) -> None:
    shown = run("search", "--sead", "1", word)
    assert (shown.code, shown.err) == (0, "")
    assert "usage: interplay search RUN [QUERY]" in shown.out


def test_the_help_of_a_command_stands_under_headings(run: Run) -> None:
    shown = run("train", "--help").out
    headings = [shown.index(f"─ {heading} ─") for heading in ("Data", "Method", "Training", "Output")]
    assert headings == sorted(headings)
    data, training = shown[headings[0] : headings[1]], shown[headings[2] : headings[3]]
    assert "--columns" in data
    assert "--epochs" in training
    assert "--epochs" not in data


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_commands_and_options(
    shell: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    told = run("--install-completion", shell)
    assert told.code == 0, told.err
    script = Path(told.out.removeprefix("The completion is in ").partition(": a new shell")[0]).read_text()
    assert str(tmp_path) in told.out
    for word in ("continual", "retrieval", "show", "order-seed", "bf16-mixed", "on-bad-row"):
        assert word in script


def test_completion_of_another_shell_is_refused(run: Run) -> None:
    assert "'bash'" in run("--install-completion", "bsh").err


def test_help_lists_the_settings(run: Run) -> None:
    assert "settings of the method lora" in run("train", "--help").out
    shown = run("train", "--method", "mitp", "--help").out
    assert "settings of the method mitp" in shown
    assert "similarity_shape" in shown
    assert "start_penalty" in shown
    other = run("train", "--method", "lpi-p", "--help").out
    assert "fusion_rank" in other
    assert "similarity_shape" not in other
    assert "start_penalty" in run("compare", "--help").out
    assert run("train", "--method", "lpi-q", "--help").code == 2


def test_help_says_how_long_training_takes_by_default_and_which_heads_there_are(run: Run) -> None:
    shown = " ".join(run("train", "--help").out.replace("│", " ").split())
    assert f"about {UPDATES} steps" in shown
    assert f"about {PATIENCE} steps" in shown
    assert f"kind={'|'.join(get_args(Kind))}," in shown


@pytest.mark.parametrize("name", commands())
def test_help_names_nothing_that_only_the_code_knows(name: str, run: Run) -> None:
    shown = " ".join(run(*name.split(), "--help").out.replace("│", " ").split())
    assert not re.findall(r"`(?:[A-Z]{5,}|[A-Z][a-z]+[A-Z]\w*|[A-Z]\w+\.\w+|interplay\.[\w.]+)`", shown)


def test_quiet_leaves_the_result_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> Result:
        note("loading")
        print("by the way")
        return Result([1], "one")

    monkeypatch.setattr(Command, "load", lambda self: command)
    loud, quiet = run("methods"), run("methods", "--quiet")
    assert (loud.out, loud.err) == ("one\n", "loading\nby the way\n")
    assert (quiet.out, quiet.err) == ("one\n", "")


def test_quiet_does_not_hide_what_went_wrong(run: Run, tmp_path: Path) -> None:
    assert "no folder" in run("evaluate", tmp_path / "none", "--quiet").err


@pytest.mark.parametrize(
    ("argument", "wrong"), [("caf\udce9.csv", "is no UTF-8 text"), ("a\0b", "holds a zero byte")]
)
def test_arguments_that_no_file_can_be_called_are_refused(argument: str, wrong: str, run: Run) -> None:
    done = run("data", "show", argument)
    assert done.code == 2
    assert wrong in done.err


@pytest.mark.parametrize("as_json", [True, False])
def test_a_terminal_without_the_letters_gets_escapes(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from interplay.cli import main

    monkeypatch.setattr(Command, "load", lambda self: lambda: Result(["i→t \U0001f34e"], "i→t \U0001f34e"))
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii"))
    assert main(["methods", *(["--json"] if as_json else [])]) == 0
    shown = bytes_out.getvalue().decode("ascii")
    monkeypatch.undo()
    assert shown == ('[\n  "i\\u2192t \\ud83c\\udf4e"\n]\n' if as_json else "i\\u2192t \\U0001f34e\n")


def test_help_is_shown_on_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from interplay.cli import main

    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii"))
    assert main(["train", "--help"]) == 0
    assert b"settings of the head" in bytes_out.getvalue()


@pytest.mark.parametrize("text", ["x" * 9000, "x " * 5000, "a/" * 3000, "short\n  words"])
def test_messages_stay_short(text: str) -> None:
    message = str(InterplayError(f"There is no '{text}': choose another name."))
    assert len(message) <= LONGEST
    assert message.startswith("There is no '")
    assert message.endswith(": choose another name.")
    assert "\n" not in message


def test_a_short_message_is_left_alone() -> None:
    assert brief("There is no picture 'a.png'.") == "There is no picture 'a.png'."


def test_long_lists_of_names_are_cut() -> None:
    names = [f"method-{at:03}" for at in range(100)]
    assert str(unknown("method", "x", names)).endswith(" and 84 more.")
    assert str(unknown("method", "x", names[:3])).endswith("Known: method-000, method-001, method-002.")
