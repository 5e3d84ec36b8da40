"""`interplay forget`: one task out of the retriever of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interplay.cli.result import Result, task_count
from interplay.cli.runs import (
    changing,
    open_retriever,
)

if TYPE_CHECKING:
    pass

GROUP = "Retrieve"


def forget(run: str, *, task: str, backbone: str | None = None) -> Result:
    """Remove one task from the retriever of a run: its prompts, its keys, and every route to it.

    Example: interplay forget runs/lpi --task Flags

    All other tasks stay as they are, bit for bit. Nothing of the task stays in the run's folder: its logs and all
    checkpoints go, and in the records of the stream '(forgotten N)' takes the place of its name. Where another process
    changes the run, this one waits for it. Galleries of the run: 'interplay refresh' afterwards.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        task: its name.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    with changing(run):
        retriever = open_retriever(run, backbone)
        retriever.forget(task)
        retriever.save_pretrained(run)
    found = {"run": run, "forgotten": task, "tasks": list(retriever.sessions)}
    return Result(found, f"{run} has forgotten '{task}' and knows {task_count(len(retriever.sessions))} now.")
