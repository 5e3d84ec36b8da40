"""`interplay plots`: pictures of what runs of `interplay continual` came to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, note
from interplay.cli.runs import open_retriever, task_of
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from interplay.retrieval.score_matrix import ScoreMatrix

GROUP = "Retrieve"

FOLDER = "plots"
_RANKS = {"rank": "prompt rank", "fusion_rank": "interaction rank"}


@dataclass(frozen=True)
class StreamRun:
    """One run of `interplay continual`.

    Attributes:
        name: how pictures call it.
        folder: where it is.
        matrix, bare: its recall, and that of the bare backbone where it was kept.
        method, settings: what ran.
    """

    name: str
    folder: Path
    matrix: ScoreMatrix
    bare: ScoreMatrix | None
    method: str
    settings: dict[str, Any]


def plots(
    runs: tuple[str, ...], *, out: str | None = None, k: int = 1, backbone: str | None = None
) -> Result:
    """Draw the runs of 'interplay continual': tasks, score matrix, maps of task names and prompts, ranks.

    Examples:

      interplay plots runs/lpi
      interplay plots runs/lpi-m runs/lpi-p --out pictures
      interplay plots runs/ranks -k 5

    Of one run: recall and forgetting of every task (tasks.png), the score matrix (matrix.png), and the task names and
    the prompts on a plane by t-SNE (names.png, prompts.png). Of several runs on the same tasks: tasks.png with all of
    them; where they differ in `rank` or `fusion_rank`: recall and forgetting over it (rank.png, fusion_rank.png).

    Args:
        runs: run folders, or folders that hold run folders.
        out: folder for the pictures; by default a folder `plots` in the run, or beside the first of several.
        k: of recall@k.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    chosen = None if out is None else out_folder(out)
    found = _opened(runs)
    if k not in found[0].matrix.ks:
        raise InterplayError(f"-k must be one of {', '.join(map(str, found[0].matrix.ks))}, not {k}.")
    folder = chosen or (found[0].folder if len(found) == 1 else found[0].folder.parent) / FOLDER
    pictures, left_out = (
        _of_one(found[0], folder, k, backbone) if len(found) == 1 else _of_several(found, folder, k)
    )
    text = "\n".join(str(path) for path in pictures.values())
    text += "".join(f"\n{name} was not drawn: {reason}" for name, reason in left_out.items())
    data = {
        "runs": [str(run.folder) for run in found],
        "pictures": {name: str(path) for name, path in pictures.items()},
        "not_drawn": left_out,
    }
    return Result(data, text)


def _opened(places: Sequence[str]) -> list[StreamRun]:
    """The runs in these folders.

    Raises:
        InterplayError: a folder holds none, or a classifier.
    """
    from interplay.retrieval.run_folder import MATRIX

    folders: list[Path] = []
    for place in map(Path, places):
        inside = sorted(path.parent for path in place.glob(f"*/{MATRIX}"))
        if (place / MATRIX).exists() or not inside:
            folders.append(place)
        else:
            folders += inside
    return [_read(folder, len(folders) > 1) for folder in dict.fromkeys(folders)]


def _read(folder: Path, several: bool) -> StreamRun:
    from interplay.methods.registry import choose
    from interplay.retrieval.card import read_card
    from interplay.retrieval.run_folder import BARE, MATRIX
    from interplay.retrieval.score_matrix import ScoreMatrix

    if task_of(str(folder)) == "classification":
        raise InterplayError(
            f"{folder} holds a classifier: interplay plots draws runs of 'interplay continual'."
        )
    if not (folder / MATRIX).exists():
        raise InterplayError(
            f"{folder} holds no {MATRIX}: only a stream of sessions that 'interplay continual' measured can be drawn "
            "(with --joint there is none)."
        )
    matrix = ScoreMatrix.load(folder / MATRIX)
    if not matrix.stages:
        raise InterplayError(f"{folder / MATRIX} holds no stage yet: let its first session end.")
    card = read_card(folder)
    bare = ScoreMatrix.load(folder / BARE) if (folder / BARE).exists() else None
    settings = asdict(choose(card.method).settings(card.settings))
    name = os.path.relpath(folder, folder.parent.parent) if several else folder.name
    return StreamRun(name, folder, matrix, bare, card.method, settings)


def _of_one(
    run: StreamRun, folder: Path, k: int, backbone: str | None
) -> tuple[dict[str, Path], dict[str, str]]:
    """Four pictures, and why one of them could not be drawn."""
    from interplay.methods.sessions import Banked
    from interplay.plotting import streams

    pictures = {
        "tasks": streams.tasks_figure({run.method: run.matrix}, folder / "tasks.png", run.bare, k),
        "matrix": streams.matrix_figure(run.matrix, folder / "matrix.png", run.method, k),
    }
    left_out: dict[str, str] = {}
    retriever = open_retriever(str(run.folder), backbone)
    names, sessions = retriever.sessions, retriever.method.sessions
    if not isinstance(sessions, Banked):
        why = f"the tasks of {run.method} share their prompts, so there is nothing of each to be compared."
        return pictures, dict.fromkeys(("names", "prompts"), why)
    import torch

    from interplay.towers.tokens import SIDES

    if len(names) < streams.FEWEST:
        left_out["names"] = (
            f"a map by t-SNE needs at least {streams.FEWEST} tasks, this run has {len(names)}."
        )
    else:
        meanings = sessions.meanings().numpy()
        pictures["names"] = streams.names_map(names, meanings, folder / "names.png")
    if not names:
        left_out["prompts"] = "this run has forgotten all of its tasks."
        return pictures, left_out
    note("Placing the prompts on a plane.")
    with torch.no_grad():
        vectors: dict[str, streams.Vectors] = {
            side: sessions.learned(side).numpy()
            for side in SIDES
            if retriever.method.first_layer(side) < retriever.backbone.shape.side(side).depth
        }
    if min(found.shape[0] * found.shape[1] for found in vectors.values()) < streams.FEWEST:
        left_out["prompts"] = f"a map by t-SNE needs at least {streams.FEWEST} prompts."
    else:
        pictures["prompts"] = streams.prompts_map(names, vectors, folder / "prompts.png")
    return pictures, left_out


def _of_several(runs: Sequence[StreamRun], folder: Path, k: int) -> tuple[dict[str, Path], dict[str, str]]:
    """All runs in one picture of the tasks, and one picture for each rank in which they differ."""
    from interplay.plotting import streams

    pictures: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    if all(run.matrix.tasks == runs[0].matrix.tasks for run in runs):
        bare = next((run.bare for run in runs if run.bare is not None), None)
        matrices = {run.name: run.matrix for run in runs}
        pictures["tasks"] = streams.tasks_figure(matrices, folder / "tasks.png", bare, k)
    else:
        left_out["tasks"] = "the runs have unlike tasks, or learned them in another order."
    for setting, words in _RANKS.items():
        having = [run for run in runs if setting in run.settings and _matters(run, setting)]
        if len({run.settings[setting] for run in having}) < 2:
            left_out[setting] = f"the runs do not differ in {setting}."
            continue
        points = [
            streams.RankPoint(run.settings[setting], _group(run, having, setting), run.matrix)
            for run in having
        ]
        pictures[setting] = streams.rank_figure(points, words, folder / f"{setting}.png", k)
    if not pictures:
        raise InterplayError(
            "There is nothing to draw of these runs together: they have unlike tasks and differ in no rank."
        )
    return pictures, left_out


def _matters(run: StreamRun, setting: str) -> bool:
    """The interaction rank of a method without interaction means nothing."""
    return setting != "fusion_rank" or run.settings["fusion"] != "none"


def _group(run: StreamRun, runs: Sequence[StreamRun], setting: str) -> str:
    """What else tells a run from the others: method and the other rank, where they differ."""
    parts = [run.method] if len({other.method for other in runs}) > 1 else []
    for other, words in _RANKS.items():
        if other != setting and len({one.settings[other] for one in runs}) > 1:
            parts.append(f"{words} {run.settings[other]}")
    return ", ".join(parts) or run.method
