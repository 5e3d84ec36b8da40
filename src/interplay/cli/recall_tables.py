"""Recall of a stream in words: tables for people, plain values for machines."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from interplay.cli.result import columns
from interplay.cli.worth import ARROWS, COUNTED, Counts, verdict, worth
from interplay.retrieval.averages import average, averages

if TYPE_CHECKING:
    from interplay.metrics.recall import Direction, Recall
    from interplay.retrieval.score_matrix import ScoreMatrix, Stage
    from interplay.towers.tokens import Side

_WORDS: dict[Direction, str] = {"image_to_text": "image to text", "text_to_image": "text to image"}
_ASKING: dict[Direction, Side] = {"image_to_text": "image", "text_to_image": "text"}
_FIGURES = {
    "final_average": "final average",
    "stage_average": "stage average",
    "task_average": "task average",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
    "forward_transfer": "forward transfer",
}


def stream_report(
    facts: dict[str, Any], matrix: ScoreMatrix, bare: ScoreMatrix
) -> tuple[dict[str, Any], str]:
    """What a stream came to, beside the bare backbone in the same galleries."""
    found = {
        **facts,
        "per_task": {d: {str(k): matrix.per_task(d, k) for k in matrix.ks} for d in ARROWS},
        "matrix": {d: {str(k): matrix.matrix(d, k) for k in matrix.ks} for d in ARROWS},
        "summary": matrix.summary(),
        "bare": bare.summary(),
    }
    k = matrix.ks[0]
    parts = [
        f"{facts['method']} on {facts['data']}: {len(matrix.stages)} sessions, measured on {facts['split']}. Recall as "
        "shares from 0 to 1; no task identity given.",
        f"Recall@{k} of each task: when it was learned, after the last session, and what was forgotten of its best\n\n"
        + _per_task(matrix, bare, k, facts["counts"]),
        *(
            f"Recall@{k}, {_WORDS[d]}: of task i (columns; in brackets, of how many {_ASKING[d]}s) after session t "
            "(rows), in the gallery of tasks 1 to t\n\n" + _triangle(matrix, d, k, facts["counts"])
            for d in ARROWS
        ),
        _summary(matrix, bare, str(facts["method"])),
    ]
    last, still = matrix.stages[-1], bare.stages[len(matrix.stages) - 1]
    seen = matrix.tasks[: len(matrix.stages)]
    measured = {name: facts["counts"][name] for name in seen}
    parts.append(worth(seen, measured, still.recall[: len(seen)], last.recall[: len(seen)], last.oracle))
    if found["summary"]["routing"]:
        parts.append(_routing(found["summary"]["routing"]))
    return found, "\n\n".join(parts)


def all_at_once_report(
    facts: dict[str, Any], recall: Sequence[Recall], bare: Sequence[Recall]
) -> tuple[dict[str, Any], str]:
    """Joint training, measured task by task in the gallery of all tasks."""
    found = {**facts, "joint": True, **_measured(facts["order"], recall, bare)}
    title = (
        f"{facts['method']}, all tasks of {facts['data']} learned at once, measured on {facts['split']}: recall in the "
        "gallery of all tasks, as shares from 0 to 1."
    )
    said = verdict(facts["counts"], bare, recall, max(recall[0]["image_to_text"]))
    return found, f"{title}\n\n{_each(facts, recall, bare)}\n\n{said}"


def measured_report(
    facts: dict[str, Any], stage: Stage, bare: Sequence[Recall]
) -> tuple[dict[str, Any], str]:
    """A trained retriever, measured as it stands."""
    found = {
        **facts,
        **_measured(facts["order"], stage.recall, bare),
        "routing": stage.routing,
        "oracle": None,
    }
    title = (
        f"{facts['method']} on {facts['data']}, {facts['split']}: recall of each task in the gallery of all tasks, as "
        "shares from 0 to 1; no task identity given."
    )
    parts = [title, _each(facts, stage.recall, bare)]
    if stage.oracle is not None:
        found["oracle"] = averages(stage.oracle)
        parts.append(f"With the true task given: {average(stage.oracle):.3f} on average.")
    parts.append(worth(facts["order"], facts["counts"], bare, stage.recall, stage.oracle))
    if stage.routing:
        parts.append(_routing(stage.routing))
    return found, "\n\n".join(parts)


def _measured(names: Sequence[str], recall: Sequence[Recall], bare: Sequence[Recall]) -> dict[str, Any]:
    return {
        "per_task": dict(zip(names, recall, strict=True)),
        "average": averages(recall),
        "bare_per_task": dict(zip(names, bare, strict=True)),
        "bare": averages(bare),
    }


def _each(facts: dict[str, Any], recall: Sequence[Recall], bare: Sequence[Recall]) -> str:
    """One line a task and one for their mean, with the bare backbone's mean beside."""
    ks = list(recall[0]["image_to_text"])
    header = ("task", *COUNTED, *(f"{ARROWS[d]} R@{k}" for d in ARROWS for k in ks), "mean", "bare mean")
    counts: Counts = facts["counts"]

    def line(name: str, ours: Sequence[Recall], theirs: Sequence[Recall]) -> tuple[object, ...]:
        shares = [fmean(recall[d][k] for recall in ours) for d in ARROWS for k in ks]
        named = [counts[name]] if name in counts else list(counts.values())
        asked = [sum(count[side] for count in named) for side in COUNTED.values()]
        return name, *asked, *shares, average(ours), average(theirs)

    rows = [
        line(*one) for one in zip(facts["order"], ([r] for r in recall), ([b] for b in bare), strict=True)
    ]
    return columns(header, [*rows, line("all tasks", recall, bare)])


def _per_task(matrix: ScoreMatrix, bare: ScoreMatrix, k: int, counts: Counts) -> str:
    lines = {d: matrix.per_task(d, k) for d in ARROWS}
    still = {d: bare.per_task(d, k) for d in ARROWS}
    header = ["task", *COUNTED]
    for arrow in ARROWS.values():
        header += [f"{arrow} learned", "last", "forgotten", "bare"]
    rows = []
    for at, task in enumerate(matrix.tasks[: len(matrix.stages)]):
        row: list[object] = [f"{at + 1} {task}", *(counts[task][side] for side in COUNTED.values())]
        for d in ARROWS:
            one = lines[d][at]
            row += [one["learned"], one["last"], one["forgetting"], still[d][at]["last"]]
        rows.append(row)
    return columns(header, rows)


def _triangle(matrix: ScoreMatrix, direction: Direction, k: int, counts: Counts) -> str:
    rows, asking = matrix.matrix(direction, k), _ASKING[direction]
    names = [f"{at + 1} {task}" for at, task in enumerate(matrix.tasks)]
    cells = [
        (names[t], *(value if i <= t else None for i, value in enumerate(row))) for t, row in enumerate(rows)
    ]
    header = [f"task {at + 1} ({counts[task][asking]:,})" for at, task in enumerate(matrix.tasks)]
    return columns(("after", *header), cells)


def _summary(matrix: ScoreMatrix, bare: ScoreMatrix, method: str) -> str:
    """The figures of the method, of the bare backbone, and with true task identity."""
    oracle = matrix.of_oracle()
    sources = {method: matrix.summary(), "bare backbone": bare.summary()}
    if oracle is not None:
        sources["true task given"] = oracle.summary()
    header = ["", "", *(f"{arrow} R@{k}" for arrow in ARROWS.values() for k in matrix.ks), "mean"]
    rows = []
    for figure, words in _FIGURES.items():
        for who, summary in sources.items():
            values = [summary[figure][d][str(k)] for d in ARROWS for k in matrix.ks]
            if any(value is not None for value in values):
                rows.append((words, who, *values, summary[figure]["mean"]))
    return columns(header, rows)


def _routing(routing: dict[Any, float]) -> str:
    sides = ", ".join(f"{share:.1%} of the {side}s" for side, share in routing.items())
    return f"Sent to the prompts of their own task, of those that were sent to any: {sides}."
