"""A whole stream: learn its sessions one after the other, and after each one measure all tasks seen so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from interplay import artifacts
from interplay.data.schema import Split
from interplay.embedding import SideInputs, table_inputs
from interplay.errors import InterplayError
from interplay.estimators import encode_table
from interplay.recall import Recall, retrieval_ranks
from interplay.retriever import BARE, Retriever
from interplay.score_matrix import ScoreMatrix
from interplay.tasks.stream import Session, exploded, seen
from interplay.towers.tokens import SIDES, Side
from interplay.train_settings import TrainSettings

MATRIX = "matrix.json"


@dataclass(frozen=True)
class StageScores:
    """What one stage of a stream brought.

    Attributes:
        recall: of every task seen, by the routes that the retriever chose itself.
        oracle: the same with the true task given; None for methods that choose no task.
        routing: share of samples that were sent to their own task, by side; None for methods that choose none.
    """

    recall: list[Recall]
    oracle: list[Recall] | None
    routing: dict[Side, float] | None


class StreamEvaluation:
    """The images and captions of one split of a stream, measured stage after stage.

    Keys are computed once; after a new session only items whose route or prompts changed are encoded again.

    Args:
        retriever: what is measured, as it stands at each call.
        sessions: the stream.
        split: which samples.
    """

    def __init__(self, retriever: Retriever, sessions: Sequence[Session], split: Split = "test") -> None:
        self._retriever = retriever
        self._names = [session.name for session in sessions]
        table, tasks = seen(sessions, len(sessions) - 1, split)
        captions, owners = exploded(table)
        reserve = retriever.method.reserve
        encoded = {
            "image": encode_table(table, retriever.backbone, reserve=reserve),
            "text": encode_table(captions, retriever.backbone, reserve=reserve),
        }
        image_tasks = torch.tensor(tasks)
        self._owners = torch.tensor(owners)
        self._tasks: dict[Side, Tensor] = {"image": image_tasks, "text": image_tasks[self._owners]}
        self._inputs: dict[Side, SideInputs] = {side: table_inputs(encoded[side], side) for side in SIDES}
        self._keys = {side: retriever.keys(side, self._inputs[side]) for side in SIDES}
        self._cache: dict[tuple[Side, bool], tuple[list[str], Tensor]] = {}

    def _vectors(self, side: Side, routes: list[str], *, oracle: bool) -> Tensor:
        """Vectors of all items of a side; those that are not seen yet have the empty route and cost nothing."""
        versions = {route: self._retriever.version_of(route) for route in set(routes)}
        marks = [f"{versions[route]} {route}" for route in routes]
        old, vectors = self._cache.get((side, oracle), ([""] * len(routes), torch.zeros(0)))
        if not len(vectors):
            vectors = torch.zeros(len(routes), self._retriever.joint)
        rows = [at for at, mark in enumerate(marks) if mark != old[at] and routes[at] != _UNSEEN]
        if rows:
            fresh = self._retriever.encode(side, self._inputs[side].rows(rows), [routes[at] for at in rows])
            vectors = vectors.clone()
            vectors[rows] = fresh
        self._cache[side, oracle] = marks, vectors
        return vectors

    def stage(self, count: int) -> StageScores:
        """Measure the first `count` tasks against the gallery of them all, with no task given.

        Args:
            count: tasks of the stream whose samples take part; the retriever may know fewer or more.
        """
        retriever = self._retriever
        here = {side: self._tasks[side] < count for side in SIDES}
        chosen: dict[Side, list[str]] = {
            side: [
                route if keep else _UNSEEN
                for route, keep in zip(
                    retriever.routes(side, self._keys[side]), here[side].tolist(), strict=True
                )
            ]
            for side in SIDES
        }
        recall = self._measure(chosen, here, count, oracle=False)
        known = set(retriever.sessions)
        if not known or not retriever.method.routes_tasks:
            return StageScores(recall, None, None)
        true = {side: [self._names[task] for task in self._tasks[side].tolist()] for side in SIDES}
        routing = {
            side: sum(
                a == b
                for a, b, keep in zip(chosen[side], true[side], here[side].tolist(), strict=True)
                if keep
            )
            / int(here[side].sum())
            for side in SIDES
        }
        if not set(self._names[:count]) <= known:
            return StageScores(recall, None, routing)
        given = {
            side: [
                name if keep else _UNSEEN for name, keep in zip(true[side], here[side].tolist(), strict=True)
            ]
            for side in SIDES
        }
        return StageScores(recall, self._measure(given, here, count, oracle=True), routing)

    def _measure(
        self, routes: dict[Side, list[str]], here: dict[Side, Tensor], count: int, *, oracle: bool
    ) -> list[Recall]:
        image, text = (self._vectors(side, routes[side], oracle=oracle)[here[side]] for side in SIDES)
        number = here["image"].cumsum(0) - 1  # of each image among those that are here
        found = retrieval_ranks(image, text, number[self._owners[here["text"]]])
        tasks = self._tasks["image"][here["image"]]
        return [found.recall(images=tasks == task) for task in range(count)]


_UNSEEN = "\0"


def run_stream(
    retriever: Retriever,
    sessions: Sequence[Session],
    folder: Path,
    *,
    settings: TrainSettings | None = None,
    split: Split = "test",
    resume: bool = False,
    report: Callable[[ScoreMatrix], None] | None = None,
) -> tuple[Retriever, ScoreMatrix]:
    """Learn all sessions of a stream, each measured with every task seen so far, and save after each one.

    The folder holds the artefact of the retriever, `matrix.json`, and one folder a session with its checkpoints and
    logs. A stream that was killed goes on with `resume` at the session and epoch where it was, and ends with the same
    prompts and the same matrix as an undisturbed one.

    Args:
        retriever: fresh; with `resume` it is replaced by the one in the folder, where there is one.
        sessions: the stream.
        folder: of the run.
        settings: how each session is trained.
        split: what is measured.
        resume: go on where the folder stands.
        report: called with the matrix after every session.

    Returns:
        The retriever behind the last session, and the matrix.

    Raises:
        InterplayError: the folder holds a run already; a stream or settings other than before; as `Retriever.learn`.
    """
    names = [session.name for session in sessions]
    there = (folder / artifacts.WEIGHTS).exists()
    if there and not resume:
        raise InterplayError(
            f"{folder} holds a run already: go on with it (resume), or choose another folder."
        )
    matrix = ScoreMatrix(tuple(names))
    if there:
        kept = Retriever.from_pretrained(folder, backbone=retriever.backbone)
        same = (kept.method_name, kept.method.settings, kept.seed)
        if same != (retriever.method_name, retriever.method.settings, retriever.seed):
            raise InterplayError(f"The run in {folder} was started with another method, settings or seed.")
        if list(kept.sessions) != names[: len(kept.sessions)]:
            raise InterplayError(
                f"The run in {folder} has learned {', '.join(kept.sessions)}: that is not how this stream begins."
            )
        retriever = kept
        if (folder / MATRIX).exists():
            matrix = ScoreMatrix.load(folder / MATRIX)
    evaluation = StreamEvaluation(retriever, sessions, split)
    for at, session in enumerate(sessions):
        if at >= len(retriever.sessions):
            place = folder / "sessions" / f"{at + 1:02d}"
            retriever.learn(session.name, session.table, settings=settings, run=place, resume=resume)
            retriever.save_pretrained(folder)
        if len(matrix) <= at:
            scores = evaluation.stage(at + 1)
            matrix = matrix.with_row(scores.recall, oracle=scores.oracle, routing=scores.routing)
            matrix.save(folder / MATRIX)
        if report is not None:
            report(matrix)
    return retriever, matrix


def bare_recall(retriever: Retriever, sessions: Sequence[Session], split: Split = "test") -> list[Recall]:
    """Recall of every task of a stream by the bare backbone, against the gallery of all tasks."""
    bare = Retriever(retriever.backbone, "zero_shot")
    assert bare.routes("image", torch.zeros(1, bare.joint)) == [BARE]
    return StreamEvaluation(bare, sessions, split).stage(len(sessions)).recall
