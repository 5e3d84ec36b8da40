"""`interplay demo retrieval`: four tasks one after the other, a gallery, three questions and their answers."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, columns, note
from interplay.cli.runs import open_backbone
from interplay.cli.worth import ARROWS, COUNTED, Counts
from interplay.errors import InterplayError
from interplay.retrieval.averages import average
from interplay.seeds import check_seed

if TYPE_CHECKING:
    from interplay.data.sessions import Session
    from interplay.gallery.gallery import Hit
    from interplay.retrieval.retriever import Retriever
    from interplay.retrieval.score_matrix import ScoreMatrix

GROUP = "Start here"

DATA, BACKBONE, METHOD = "openmoji/continual", "tiny", "lpi-p"
TASKS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Flags")
SETTINGS = {"length": 4, "deviation": 0.2}
TRAINING = {"epochs": 12, "learning_rate": 0.05, "batch_size": 64, "monitor": "loss"}
"""How every session is trained: the only place for these numbers."""
QUERIES = ("a red fruit", "a bird", "a train or a bus")
SHOWN = 5
RUN, PICTURES, GALLERY = "run", "pictures", "gallery.db"


def demo_retrieval(*, out: str = "demo-retrieval", epochs: int | None = None, seed: int = 0) -> Result:
    """Learn four tasks of retrieval one after the other, search a gallery by text, and draw what was found.

    Example: interplay demo retrieval --out demo-retrieval

    Learns four categories of openmoji/continual with LPI on the bundled backbone, keeping no sample of an older one,
    and shows recall and forgetting beside the frozen backbone. Then it indexes the test pictures and answers three
    questions. Takes up to three minutes on two cores and needs no network.

    Args:
        out: folder for everything that it writes; files of an earlier demo are replaced.
        epochs: passes over the data of each task; by default a few.
        seed: of the prompts' first values and of the order of the data.
    """
    if epochs is not None and epochs < 1:
        raise InterplayError(f"--epochs must be at least 1, not {epochs}.")
    from interplay.data import load
    from interplay.data.sessions import sessions_of
    from interplay.retrieval.continual import StreamEvaluation, run_stream
    from interplay.retrieval.retriever import Retriever
    from interplay.training.settings import TrainSettings

    begun = time.monotonic()
    check_seed(seed)
    folder = _cleared(out_folder(out))
    note(f"Loading {DATA} and the bundled backbone '{BACKBONE}' (the pictures are drawn once and then kept).")
    known = {session.name: session for session in sessions_of(load(DATA))}
    sessions = [known[name] for name in TASKS]
    backbone = open_backbone(BACKBONE)
    retriever = Retriever(backbone, METHOD, settings=SETTINGS, seed=seed)
    changes: dict[str, Any] = TRAINING | ({} if epochs is None else {"epochs": epochs})
    evaluation = StreamEvaluation(backbone, sessions, reserve=retriever.method.traits.reserve)
    note(f"[1/{len(sessions)}] {TASKS[0]}")

    def report(matrix: ScoreMatrix) -> None:
        done = len(matrix.stages)
        if done < len(TASKS):
            note(f"[{done + 1}/{len(TASKS)}] {TASKS[done]}")

    retriever, matrix = run_stream(
        retriever,
        sessions,
        folder / RUN,
        settings=TrainSettings(**changes, seed=seed),
        report=report,
        evaluation=evaluation,
    )
    bare = evaluation.bare_matrix()
    note("Indexing the test pictures.")
    answers = _answers(retriever, sessions, folder)
    data = {
        "data": DATA,
        "backbone": BACKBONE,
        "method": METHOD,
        "tasks": list(TASKS),
        "counts": evaluation.counts(),
        "training": changes,
        "seed": seed,
        "summary": matrix.summary(),
        "bare": bare.summary(),
        "answers": {
            query: [{"source": Path(hit.source).name, "score": hit.score, "route": hit.route} for hit in hits]
            for query, hits in answers.items()
        },
    }
    return _report(data, matrix, bare, answers, folder, begun)


def _cleared(folder: Path) -> Path:
    """The folder without what an earlier demo wrote."""
    folder.mkdir(parents=True, exist_ok=True)  # fails now, if at all
    if (folder / "results.json").exists() or (folder / RUN / "sessions").exists():
        for name in (RUN, PICTURES, GALLERY):
            shutil.rmtree(folder / name, ignore_errors=True)
    return folder


def _answers(retriever: Retriever, sessions: list[Session], folder: Path) -> dict[str, list[Hit]]:
    """Index the test pictures of all tasks, and ask."""
    files = []
    (folder / PICTURES).mkdir(exist_ok=True)
    for session in sessions:
        test = session.split("test")
        for at, name in enumerate(test.ids()):
            files.append(folder / PICTURES / f"{name.replace('/', '-')}.png")
            test.image(at).save(files[-1])
    with retriever.index(files, uri=folder / GALLERY, progress=False) as gallery:
        return {query: gallery.search(query, SHOWN, by="text", find="image") for query in QUERIES}


def _report(
    data: dict[str, Any],
    matrix: ScoreMatrix,
    bare: ScoreMatrix,
    answers: dict[str, list[Hit]],
    folder: Path,
    begun: float,
) -> Result:
    """The tables, their pictures and their JSON, and where everything is."""
    from interplay.files import write_text
    from interplay.plotting.streams import hits_sheet, tasks_figure

    recall = tasks_figure({METHOD: matrix}, folder / "recall.png", bare)
    found = hits_sheet(_drawn(answers), folder / "answers.png", f"Answers of {METHOD} after four tasks")
    data["seconds"] = time.monotonic() - begun
    write_text(folder / "results.json", json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    ours, frozen = data["summary"]["forgetting"]["mean"], data["bare"]["forgetting"]["mean"]
    sentences = [
        f"{METHOD} on {DATA}, {len(TASKS)} tasks one after the other on the frozen backbone '{BACKBONE}': recall@1 on "
        "test as shares, both directions averaged, no task identity given, one seed.",
        _table(matrix, bare, data["counts"]),
        f"Mean recall over all tasks, directions and k: {average(matrix.stages[-1].recall):.3f}, frozen backbone "
        f"{average(bare.stages[-1].recall):.3f}.\nForgotten of it: {ours:.3f}, frozen backbone {frozen:.3f} (a gallery "
        "that grows takes from both).",
        "\n".join(
            f"“{query}”: " + ", ".join(f"{_name(hit)} ({hit.score:.2f})" for hit in hits)
            for query, hits in answers.items()
        ),
    ]
    files = {
        "recall": str(recall),
        "answers": str(found),
        "results": str(folder / "results.json"),
        "run": str(folder / RUN),
        "gallery": str(folder / GALLERY),
    }
    run, gallery = files["run"], files["gallery"]
    sentences.append(f"""recall of each task       {files["recall"]}
pictures that were found  {files["answers"]}
all figures               {files["results"]}

Next:
  interplay search {run} "a yellow flower" --gallery {gallery}
  interplay learn {run} --task Objects --data {DATA}
  interplay refresh {run} --gallery {gallery}""")
    return Result(data | {"files": files}, "\n\n".join(sentences))


def _table(matrix: ScoreMatrix, bare: ScoreMatrix, counts: Counts) -> str:
    """Recall@1 of each task when it was learned and at the end, and what was forgotten, beside the frozen backbone."""
    header = (
        "task",
        *COUNTED,
        "learned",
        "at the end",
        "forgotten",
        "frozen, at the end",
        "frozen, forgotten",
    )
    rows: list[tuple[object, ...]] = []
    for at, task in enumerate(matrix.tasks):
        ours = [matrix.per_task(direction, 1)[at] for direction in ARROWS]
        frozen = [bare.per_task(direction, 1)[at] for direction in ARROWS]
        cells = [
            (ours, "learned"),
            (ours, "last"),
            (ours, "forgetting"),
            (frozen, "last"),
            (frozen, "forgetting"),
        ]
        rows.append(
            (
                task,
                *(counts[task][side] for side in COUNTED.values()),
                *(
                    None if lines[0][key] is None else fmean(one[key] for one in lines)
                    for lines, key in cells
                ),
            )
        )
    return columns(header, rows)


def _drawn(answers: dict[str, list[Hit]]) -> list[tuple[str, list[tuple[Any, str]]]]:
    """Queries with the pictures and captions of their hits."""
    from interplay.data.images import decode

    return [
        (query, [(decode(hit.source, hit.source), f"{_name(hit)} {hit.score:.2f}") for hit in hits])
        for query, hits in answers.items()
    ]


def _name(hit: Hit) -> str:
    """The name of an emoji from its file's: code point first."""
    return Path(hit.source).stem.partition(" ")[2] or Path(hit.source).stem
