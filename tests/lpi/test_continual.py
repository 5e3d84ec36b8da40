"""Streams: what is measured after each session, what a run keeps, and that a killed one goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file

from interplay.data.sessions import Session
from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.metrics.recall import KS
from interplay.retrieval.continual import StreamEvaluation, run_stream
from interplay.retrieval.retriever import Retriever
from interplay.retrieval.run_folder import MATRIX
from interplay.retrieval.score_matrix import ScoreMatrix
from interplay.towers.backbone import Backbone
from tests.forking import Runs
from tests.lpi.toy import QUICK, SMALL, pairs, stream
from tests.train.toy import toy_backbone


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


def slow_recall(
    retriever: Retriever, count: int, *, oracle: bool = False
) -> list[dict[str, dict[int, float]]]:
    """Every item encoded alone, every score compared in a loop."""
    images, texts = [], []
    for at, session in enumerate(stream()[:count]):
        table = session.split("test")
        for row, text in enumerate(table.texts()):
            task = session.name if oracle else None
            images.append((at, retriever.encode_images([table.image(row)], task=task)[0]))
            texts.append((at, retriever.encode_texts([text], task=task)[0]))
    found = []
    for task in range(count):
        by_direction = {}
        for direction, asking, asked in (("image_to_text", images, texts), ("text_to_image", texts, images)):
            ranks = []
            for at, (of, query) in enumerate(asking):
                if of == task:
                    scores = [float(query @ other) for _, other in asked]
                    ranks.append(1 + sum(s >= scores[at] for i, s in enumerate(scores) if i != at))
            by_direction[direction] = {k: sum(r <= k for r in ranks) / len(ranks) for k in KS}
        found.append(by_direction)
    return found


@pytest.mark.parametrize("method", ["lpi-m", "lpi-m-sequential"])
def test_every_stage_is_measured_as_the_loop_measures_it(
    method: str, towers: Backbone, tmp_path: Path
) -> None:
    names: list[int] = []
    retriever = Retriever(towers, method, settings=SMALL)
    expected = []

    def watch(matrix: ScoreMatrix) -> None:
        names.append(len(matrix.stages))

    sessions = stream()
    _, matrix = run_stream(retriever, sessions, tmp_path / "run", settings=QUICK, report=watch)
    assert names == [1, 2, 3]
    again = Retriever(towers, method, settings=SMALL)
    for count, session in enumerate(sessions, start=1):
        again.learn(session.name, session.table, settings=QUICK)
        expected.append(slow_recall(again, count))
        assert list(matrix.stages[count - 1].recall[:count]) == expected[-1]
        if method == "lpi-m":
            assert list(matrix.stages[count - 1].oracle or ()) == slow_recall(again, count, oracle=True)
            right = [
                retriever_route == name
                for at, name in enumerate(s.name for s in sessions[:count])
                for retriever_route in again.routes(
                    "image",
                    again.keys("image", [sessions[at].split("test").image(row) for row in range(2)]),
                )
            ]
            assert (matrix.stages[count - 1].routing or {})["image"] == sum(right) / len(right)
        else:
            assert matrix.stages[count - 1].oracle is None
            assert matrix.stages[count - 1].routing is None
    assert len(matrix.stages[0].recall) == 2  # the next task too, for forward transfer
    assert ScoreMatrix.load(tmp_path / "run" / MATRIX) == matrix
    bare = StreamEvaluation(towers, sessions)
    assert list(matrix.baseline or ()) == bare.baseline()
    assert bare.bare() == slow_recall(Retriever(towers, "zero_shot"), 3)


def test_a_row_for_each_caption_comes_to_what_a_list_of_captions_does(
    towers: Backbone, tmp_path: Path
) -> None:
    found = []
    for listed in (True, False):
        sessions = []
        for task in range(2):
            table = pairs(task, captions=3)
            files = [str(tmp_path / f"{task}-{row}.png") for row in range(len(table))]
            for row, file in enumerate(files):
                table.image(row).save(file)
            columns: dict[str, list[Any]] = {"image": [], "text": [], "split": []}
            for file, texts, split in zip(files, table.captions(), table.rows["split"][:], strict=True):
                for text in [texts] if listed else texts:
                    columns["image"].append({"path": file, "bytes": None})
                    columns["text"].append(text)
                    columns["split"].append(split)
            rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(decode=False))
            sessions.append(Session(f"task {task}", replace(table, rows=rows)))
        retriever, matrix = run_stream(
            Retriever(towers, "lpi-m", settings=SMALL), sessions, tmp_path / str(listed), settings=QUICK
        )
        found.append((matrix, retriever.method.state_dict()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[1][1][key], value) for key, value in found[0][1].items())
    assert found[0][0].stages[-1].recall[0]["text_to_image"][10] > 0


def test_only_what_changed_is_encoded_again(towers: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = stream()
    retriever = Retriever(towers, "lpi-m", settings=SMALL)
    evaluation = StreamEvaluation(towers, sessions)
    counted: list[int] = []
    encode = Retriever.encode

    def counting(self: Retriever, side: object, items: object, routes: list[str]) -> torch.Tensor:
        counted.append(len(routes))
        return encode(self, side, items, routes)  # type: ignore[arg-type]

    monkeypatch.setattr(Retriever, "encode", counting)
    for session in sessions:
        retriever.learn(session.name, session.table, settings=QUICK)
    first = evaluation.stage(retriever, 3)
    assert sum(counted) == 4 * 6
    counted.clear()
    assert evaluation.stage(retriever, 3) == first
    assert sum(counted) == 0


def test_a_run_is_not_overwritten_and_goes_on_only_as_it_began(towers: Backbone, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fresh = Retriever(towers, "lpi-m", settings=SMALL)
    run_stream(fresh, stream(2), run, settings=QUICK)
    with pytest.raises(InterplayError, match="holds a run already"):
        run_stream(Retriever(towers, "lpi-m", settings=SMALL), stream(2), run, settings=QUICK)
    for other, what in (
        (Retriever(towers, "lpi-p", settings=SMALL), "method"),
        (Retriever(towers, "lpi-m", settings={**SMALL, "rank": 1}), "settings"),
        (Retriever(towers, "lpi-m", settings=SMALL, seed=1), "seed"),
    ):
        with pytest.raises(InterplayError, match=f"was started with {what} ="):
            run_stream(other, stream(2), run, settings=QUICK, resume=True)
    swapped = list(reversed(stream(2)))
    with pytest.raises(InterplayError, match="not how this stream begins"):
        run_stream(Retriever(towers, "lpi-m", settings=SMALL), swapped, run, settings=QUICK, resume=True)
    again, matrix = run_stream(
        Retriever(towers, "lpi-m", settings=SMALL), stream(2), run, settings=QUICK, resume=True
    )
    assert again.sessions == ("task 0", "task 1")
    assert len(matrix.stages) == 2


@pytest.mark.parametrize("ended", [True, False])
def test_a_stream_that_has_grown_is_refused_before_anything_is_learned(
    ended: bool, towers: Backbone, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def go(tasks: int, stop: bool = False) -> ScoreMatrix:
        def report(_: ScoreMatrix) -> None:
            if stop:
                raise KeyboardInterrupt

        fresh = Retriever(towers, "lpi-m", settings=SMALL)
        return run_stream(fresh, stream(tasks), run, settings=QUICK, resume=run.exists(), report=report)[1]

    if ended:
        go(2)
    else:
        with pytest.raises(KeyboardInterrupt):
            go(2, stop=True)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(
        InterplayError, match=r"tasks task 0, task 1; task 2 cannot be added .*interplay learn"
    ):
        go(3)
    if not ended:
        with pytest.raises(InterplayError, match="tasks task 0, task 1; it cannot go on as one of task 0"):
            go(1)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert len(go(2).stages) == 2


@pytest.mark.bitwise
def test_no_sample_is_kept(towers: Backbone, tmp_path: Path) -> None:
    sizes = []
    for rows in (10, 14):
        run = tmp_path / str(rows)
        retriever = Retriever(towers, "lpi-m", settings=SMALL)
        sessions = [replace(s, table=s.table.select([*range(rows - 6), *range(8, 14)])) for s in stream(2)]
        run_stream(retriever, sessions, run, settings=QUICK)
        sizes.append({key: value.shape for key, value in load_file(run / "method.safetensors").items()})
        everything = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
        assert b"cat 0 0" not in everything  # a training caption
    assert sizes[0] == sizes[1]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    server = Runs("tests.lpi.child")
    yield server
    server.server.communicate()


def kills(runs: Runs, count: int, folder: Path) -> None:
    """Kill a stream several times at random moments; each time it then continues to the end."""
    seconds = runs.finish(folder / "whole")
    expected = load_file(folder / "whole" / "method.safetensors")
    matrix = json.loads((folder / "whole" / MATRIX).read_text())
    moments, killed = random.Random(count), 0
    for i in range(count):
        run = folder / str(i)
        killed += runs.kill_after((i + moments.random()) / count * seconds, run)
        runs.finish(run)
        found = load_file(run / "method.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
        assert json.loads((run / MATRIX).read_text()) == matrix
    assert killed > count // 2


def test_three_kills(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 3, tmp_path)


@pytest.mark.slow
def test_twenty_kills(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 20, tmp_path)


def test_a_coupled_method_reranks_pair_by_pair(towers: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interplay.retrieval.continual.RERANKED", 2)
    retriever = Retriever(towers, "lpi", settings={**SMALL, "fusion": "pair"})
    sessions = stream(2)
    for session in sessions:
        retriever.learn(session.name, session.table, settings=QUICK)
    with pytest.raises(InterplayError, match="needs pairs"):
        retriever.encode_texts(["cat"])
    found = StreamEvaluation(towers, sessions).stage(retriever, 2).recall
    tables = [session.split("test") for session in sessions]
    images = retriever.prepare("image", [t.image(row) for t in tables for row in range(2)])
    texts = retriever.prepare("text", [text for t in tables for text in t.texts()])
    keys = {"image": retriever.keys("image", images), "text": retriever.keys("text", texts)}
    tasks = [0, 0, 1, 1]
    for direction, asking, asked in (
        ("image_to_text", "image", "text"),
        ("text_to_image", "text", "image"),
    ):
        routes = retriever.routes(asking, keys[asking])  # type: ignore[arg-type]
        ranks = []
        for at in range(4):
            scores = [float(keys[asking][at] @ key) for key in keys[asked]]
            for other in sorted(range(4), key=lambda i: -scores[i])[:2]:
                pair = (at, other) if asking == "image" else (other, at)
                scores[other] = 3 + retriever.score_pairs(images, texts, [pair], [routes[at]]).item()
            ranks.append(1 + sum(s >= scores[at] for i, s in enumerate(scores) if i != at))
        for task in range(2):
            mine = [rank for rank, of in zip(ranks, tasks, strict=True) if of == task]
            assert found[task][direction] == {k: sum(r <= k for r in mine) / 2 for k in KS}  # type: ignore[index]


def test_a_side_that_chooses_nothing_has_no_routing_accuracy(towers: Backbone) -> None:
    retriever = Retriever(towers, "dual_prompt", settings=choose("dual_prompt").method.tiny())
    sessions = stream(2)
    for session in sessions:
        retriever.learn(session.name, session.table, settings=QUICK)
    stage = StreamEvaluation(towers, sessions).stage(retriever, 2)
    assert set(stage.routing or {}) == {"image"}
