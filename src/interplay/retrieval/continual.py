"""A whole stream: learn its sessions one after the other, and after each one measure all tasks seen so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import interplay.artifacts as artifacts
from interplay.data.schema import PairTable, Split
from interplay.data.sessions import Session, all_at_once, by_caption, check_sessions, seen
from interplay.encoding.embedding import SideInputs, embed, table_inputs
from interplay.encoding.inputs import encode_table
from interplay.errors import InterplayError
from interplay.locks import writing
from interplay.metrics.recall import Recall, RetrievalRanks, retrieval_ranks
from interplay.retrieval.keeping import Keep
from interplay.retrieval.retriever import BARE, Retriever
from interplay.retrieval.run_folder import MATRIX, tidy
from interplay.retrieval.score_matrix import ScoreMatrix, Stage
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Side, other
from interplay.training.report import SESSIONS
from interplay.training.settings import TrainSettings

RERANKED = 10
"""How many candidates a coupled method scores for each query: those that the bare towers rank first."""


class StreamEvaluation:
    """The images and captions of one split of a stream, measured stage after stage.

    Keys are computed once; after a new session only items whose route or prompts changed are encoded again.

    Args:
        backbone: of the retrievers that are measured.
        sessions: the stream.
        split: which samples.
        reserve: text positions that the method's prompts take.
    """

    def __init__(
        self, backbone: Backbone, sessions: Sequence[Session], split: Split = "test", *, reserve: int = 0
    ) -> None:
        self._names = [session.name for session in sessions]
        table, tasks = seen(sessions, len(sessions) - 1, split)
        captions, owners = by_caption(table)
        self._owners = torch.tensor(owners)
        self._tasks: dict[Side, Tensor] = {"image": torch.tensor(tasks)}
        self._tasks["text"] = self._tasks["image"][self._owners]
        tables: dict[Side, PairTable] = {"image": table, "text": captions}
        self._inputs: dict[Side, SideInputs] = {
            side: table_inputs(encode_table(tables[side], backbone, reserve=reserve), side) for side in SIDES
        }
        self._keys: dict[Side, Tensor] = {side: embed(self._inputs[side], backbone) for side in SIDES}
        self._cache: dict[tuple[Side, bool], tuple[list[str], Tensor]] = {}

    def counts(self) -> dict[str, dict[Side, int]]:
        """How many queries the recall of each task is a share of: its images and its texts."""
        return {
            name: {side: int((self._tasks[side] == at).sum()) for side in SIDES}
            for at, name in enumerate(self._names)
        }

    def baseline(self) -> list[Recall]:
        """Recall of each task by the bare towers, in the gallery of all tasks up to it."""
        return [self._recall(self._keys, task + 1)[task] for task in range(len(self._names))]

    def bare(self) -> list[Recall]:
        """Recall of each task by the bare towers, in the gallery of all tasks."""
        return self._recall(self._keys, len(self._names))

    def bare_matrix(self) -> ScoreMatrix:
        """The matrix of the bare towers: what a growing gallery takes away although nothing is forgotten."""
        rows = [self._recall(self._keys, count) for count in range(1, len(self._names) + 1)]
        baseline = [row[-1] for row in rows]
        matrix = ScoreMatrix(tuple(self._names), baseline=tuple(baseline))
        for at, row in enumerate(rows):
            matrix.append(at, [*row, *baseline[at + 1 : at + 2]])
        return matrix

    def stage(self, retriever: Retriever, count: int) -> Stage:
        """Measure the first `count` tasks in the gallery of them all, no task given; and the next one in its own.

        Args:
            retriever: as it stands; where it routes, routing is measured too, and recall with the true tasks given.
            count: tasks whose samples take part.
        """
        routes = {side: retriever.routes(side, self._keys[side]) for side in SIDES}
        if retriever.method.traits.coupled:
            return Stage(tuple(self._reranked(retriever, routes, count)))
        ahead = min(count + 1, len(self._names))
        vectors = self._vectors(retriever, routes, ahead, oracle=False)
        recall = self._recall(vectors, count)
        if ahead > count:
            recall.append(self._recall(vectors, ahead)[count])
        if not retriever.method.sessions.routes_tasks or not set(self._names[:count]) <= set(
            retriever.sessions
        ):
            return Stage(tuple(recall))
        true = {side: [self._names[task] for task in self._tasks[side].tolist()] for side in SIDES}
        routing: dict[Side, float] = {}
        for side in SIDES:
            if retriever.method.sessions.route(side, self._keys[side]) is None:
                continue  # this side chooses nothing
            here = (self._tasks[side] < count).tolist()
            right = [
                own == name
                for own, name, asked in zip(routes[side], true[side], here, strict=True)
                if asked and own != BARE
            ]
            if right:
                routing[side] = sum(right) / len(right)
        given = self._vectors(retriever, true, count, oracle=True)
        return Stage(tuple(recall), routing, tuple(self._recall(given, count)))

    def _vectors(
        self, retriever: Retriever, routes: dict[Side, list[str]], count: int, *, oracle: bool
    ) -> dict[Side, Tensor]:
        """Vectors of the items of the first `count` tasks; those of the others are left as they were."""
        found: dict[Side, Tensor] = {}
        for side in SIDES:
            versions = {route: retriever.version_of(route) for route in set(routes[side])}
            marks = [f"{route} {versions[route]}" for route in routes[side]]
            empty = [""] * len(marks), torch.zeros(len(marks), retriever.joint)
            old, vectors = self._cache.get((side, oracle), empty)
            here = (self._tasks[side] < count).tolist()
            stale = [at for at, mark in enumerate(marks) if here[at] and mark != old[at]]
            vectors = vectors.clone()
            picked = [routes[side][at] for at in stale]
            vectors[stale] = retriever.encode(side, self._inputs[side].rows(stale), picked)
            kept = [mark if asked else before for mark, before, asked in zip(marks, old, here, strict=True)]
            self._cache[side, oracle] = kept, vectors
            found[side] = vectors
        return found

    def _reranked(self, retriever: Retriever, routes: dict[Side, list[str]], count: int) -> list[Recall]:
        """As `_recall`, for a coupled method: the bare towers rank, and the first `RERANKED` are scored in pairs.

        A pair takes the prompts of the query's route. Scores are whole matrices, for galleries of some thousands.
        """
        here = {side: (self._tasks[side] < count).nonzero().squeeze(1) for side in SIDES}
        bare = self._keys["image"][here["image"]] @ self._keys["text"][here["text"]].T
        own = here["image"][:, None] == self._owners[here["text"]][None]
        found: dict[Side, Tensor] = {}
        for side in SIDES:
            scores = (bare if side == "image" else bare.T).clone()
            top = scores.topk(min(RERANKED, scores.shape[1]), dim=1).indices
            rows = torch.arange(len(scores))[:, None].expand_as(top).flatten()
            columns = top.flatten()
            picked = {side: here[side][rows], other(side): here[other(side)][columns]}
            pairs = list(zip(picked["image"].tolist(), picked["text"].tolist(), strict=True))
            taken = [routes[side][at] for at in picked[side].tolist()]
            paired = retriever.score_pairs(self._inputs["image"], self._inputs["text"], pairs, taken)
            scores[rows, columns] = 3 + paired  # above every cosine of the first stage
            mine = own if side == "image" else own.T
            best = scores.masked_fill(~mine, -torch.inf).amax(dim=1, keepdim=True)
            found[side] = 1 + ((scores >= best) & ~mine).sum(dim=1)
        number = here["image"].new_zeros(len(self._tasks["image"]))
        number[here["image"]] = torch.arange(len(here["image"]))
        ranked = RetrievalRanks(found["image"], found["text"], number[self._owners[here["text"]]])
        tasks = self._tasks["image"][here["image"]]
        return [ranked.recall(images=tasks == task) for task in range(count)]

    def _recall(self, vectors: dict[Side, Tensor], count: int) -> list[Recall]:
        """Recall of each of the first `count` tasks in the gallery of them all."""
        images, texts = (self._tasks[side] < count for side in SIDES)
        number = images.cumsum(0) - 1  # of each image among those of the gallery
        owners = number[self._owners[texts]]
        found = retrieval_ranks(vectors["image"][images], vectors["text"][texts], owners)
        tasks = self._tasks["image"][images]
        return [found.recall(images=tasks == task) for task in range(count)]


def run_stream(
    retriever: Retriever,
    sessions: Sequence[Session],
    folder: Path,
    *,
    settings: TrainSettings | None = None,
    split: Split = "test",
    resume: bool = False,
    keep: Keep = "trained",
    report: Callable[[ScoreMatrix], None] | None = None,
    evaluation: StreamEvaluation | None = None,
) -> tuple[Retriever, ScoreMatrix]:
    """Learn all sessions of a stream, each measured with every task seen so far, and save after each one.

    The folder holds the artefact of the retriever, `matrix.json`, and one folder a session with its logs, and while it
    is trained with its checkpoints. A stream that was killed goes on with `resume` at the session and epoch where it
    was, and ends with the same prompts and the same matrix as an undisturbed one.

    Args:
        retriever: fresh; with `resume` it is replaced by the one in the folder, where there is one.
        sessions: the stream.
        folder: of the run.
        settings: how each session is trained.
        split: what is measured.
        resume: go on where the folder stands.
        keep: as `Retriever.learn`.
        report: called with the matrix after every session.
        evaluation: of these sessions and this split, to share; by default it is made here.

    Returns:
        The retriever after the last session, and the matrix.

    Raises:
        InterplayError: a task has too few pictures, before anything is trained; the folder holds a run already, or
            another process writes there; a stream, method or seed other than before; as `Retriever.learn`.
    """
    names = [session.name for session in sessions]
    check_sessions(sessions, {split: 1} | retriever.needs, "Add some, or leave the task out.")
    with writing(folder):
        retriever = _begun(retriever, names, folder, resume)
        matrix = ScoreMatrix(tuple(names))
        if (folder / MATRIX).exists():
            matrix = ScoreMatrix.load(folder / MATRIX)
            _check_tasks(folder, matrix.tasks, names)
        if evaluation is None:
            evaluation = StreamEvaluation(
                retriever.backbone, sessions, split, reserve=retriever.method.traits.reserve
            )
        if matrix.baseline is None:
            matrix = ScoreMatrix(tuple(names), baseline=tuple(evaluation.baseline()))
        for at, session in enumerate(sessions):
            if at == len(retriever.sessions):
                place = folder / SESSIONS / f"{at + 1:02d}"
                retriever.learn(
                    session.name, session.table, settings=settings, run=place, resume=resume, keep=keep
                )
                retriever.save_pretrained(folder)
            if at == len(matrix.stages):
                found = evaluation.stage(retriever, at + 1)
                matrix.append(at, found.recall, routing=found.routing, oracle=found.oracle)
                matrix.save(folder / MATRIX)
            if report is not None:
                report(matrix)
        tidy(folder, retriever.sessions)
    return retriever, matrix


def run_all_at_once(
    retriever: Retriever,
    sessions: Sequence[Session],
    folder: Path,
    *,
    settings: TrainSettings | None = None,
    resume: bool = False,
    keep: Keep = "trained",
) -> Retriever:
    """Learn all sessions of a stream at once, as one task named `joint`: what a stream could reach at best.

    Folder, arguments and errors are those of `run_stream`; there is one stage only, so there is no matrix. Measure it
    task by task with `StreamEvaluation.stage`.
    """
    whole = all_at_once(sessions)
    with writing(folder):
        retriever = _begun(retriever, [whole.name], folder, resume)
        if not retriever.sessions:
            place = folder / SESSIONS / "01"
            retriever.learn(whole.name, whole.table, settings=settings, run=place, resume=resume, keep=keep)
            retriever.save_pretrained(folder)
        tidy(folder, retriever.sessions)
    return retriever


def _begun(retriever: Retriever, names: list[str], folder: Path, resume: bool) -> Retriever:
    """The retriever to begin with, or the one of the run that goes on."""
    if not (folder / artifacts.WEIGHTS).exists() and not (folder / SESSIONS).exists():
        return retriever
    if not resume:
        raise InterplayError(
            f"{folder} holds a run already: go on with it (resume), or choose another folder."
        )
    return _continued(retriever, folder, names) if (folder / artifacts.WEIGHTS).exists() else retriever


def _check_tasks(folder: Path, before: Sequence[str], now: Sequence[str]) -> None:
    """Whether a run was begun with the tasks that it is to go on with.

    Raises:
        InterplayError: it was not.
    """
    if list(before) == list(now):
        return
    kept = f"The run in {folder} is a stream of the tasks {', '.join(before)}"
    new = [name for name in now if name not in before]
    if not new:
        raise InterplayError(f"{kept}; it cannot go on as one of {', '.join(now)}.")
    raise InterplayError(
        f"{kept}; {', '.join(new)} cannot be added to it. Leave those rows out and end the stream first, then add each "
        f"of them by `interplay learn {folder} --task NAME --data DATA`."
    )


def _continued(retriever: Retriever, folder: Path, names: list[str]) -> Retriever:
    """The retriever of a run that goes on."""
    kept = Retriever.from_pretrained(folder, backbone=retriever.backbone)
    for what, before, now in (
        ("method", kept.method_name, retriever.method_name),
        ("settings", kept.method.settings, retriever.method.settings),
        ("seed", kept.seed, retriever.seed),
    ):
        if before != now:
            raise InterplayError(f"The run in {folder} was started with {what} = {before}, now it is {now}.")
    if list(kept.sessions) != names[: len(kept.sessions)]:
        raise InterplayError(
            f"The run in {folder} has learned {', '.join(kept.sessions)}: that is not how this stream begins."
        )
    return kept
