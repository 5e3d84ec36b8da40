"""`interplay info`: what a method costs on a backbone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from interplay.cli.result import Result, note
from interplay.errors import InterplayError
from interplay.methods.catalogue import DEFAULT_METHOD

if TYPE_CHECKING:
    from interplay.profiling.costs import Cost
    from interplay.profiling.memory import Memory

GROUP = "Look"


def info(
    *,
    backbone: str = "tiny",
    method: str = DEFAULT_METHOD,
    set: tuple[str, ...] = (),
    text_tokens: int = 0,
    sessions: int = 0,
    measure: bool = False,
    batch_size: int = 64,
) -> Result:
    """Count what a method costs on a backbone, without any weights.

    Examples:

      interplay info --backbone clip-vit-large-patch14 --method mitp
      interplay info --backbone clip-vit-base-patch32 --method mitp --set layers=4,5,6 length=3 --text-tokens 16
      interplay info --backbone glip-tiny --method lpi-m --sessions 12
      interplay info --backbone tiny --method lpi-p --measure --batch-size 32

    Operations are counted for one pair; a multiply-add counts as 2. The head is not counted among the trained
    parameters, since all methods of a comparison share it. `glip-tiny` is a detector: a pair is a picture of 448 × 448
    pixels and a phrase.

    Args:
        backbone: `tiny`, a preset (clip-vit-base-patch32, clip-vit-base-patch16, clip-vit-large-patch14,
            clip-vit-large-patch14-336), a folder with a CLIP checkpoint, a hub id, or glip-tiny.
        method: a method or variant, see 'interplay methods'.
        set: changes to the method's settings, key=value each.
        text_tokens: length of the text in tokens; 0 means all positions of the text tower.
        sessions: also count the parameters after this number of tasks of a stream.
        measure: measure the peak memory of one training step, in a process of its own on the CPU; presets run with
            random weights.
        batch_size: pairs of the step that is measured.
    """
    from interplay.key_value import assignments
    from interplay.methods.catalogue import known_name

    known_name(method)  # refused before torch is imported
    from interplay.methods.registry import choose
    from interplay.profiling.costs import cost

    settings = assignments(set, choose(method).method.Settings, "--set")
    if text_tokens < 0:
        raise InterplayError(f"--text-tokens is a number of tokens from 0, not {text_tokens}.")
    if sessions < 0:
        raise InterplayError(f"--sessions is a number of tasks from 0, not {sessions}.")
    found = cost(backbone, method, settings, text_tokens=text_tokens or None, sessions=sessions)
    memory = None
    if measure:
        from interplay.profiling.memory import measure_step

        note("Measuring one training step.")
        memory = measure_step(
            backbone,
            method,
            settings,
            batch_size=batch_size,
            text_tokens=text_tokens or None,
            sessions=sessions,
        )
    data = asdict(found) | {"memory": None if memory is None else asdict(memory)}
    return Result(data, _costs(found, memory))


def _costs(found: Cost, memory: Memory | None) -> str:
    """What a method costs, line by line."""
    rows: list[tuple[str, str, str]] = []
    rows.append(("backbone parameters (frozen)", f"{found.backbone_parameters:,}", ""))
    a_task = " (one session)" if found.sessions else ""
    share = f"({found.trained_fraction:.3%} of the backbone)"
    rows.append((f"trained parameters{a_task}", f"{found.trained_parameters:,}", share))
    if found.session_parameters is not None:
        shared = found.session_parameters == found.trained_parameters and found.sessions > 1
        words = "the sessions share them" if shared else ""
        rows.append((f"after {found.sessions} sessions", f"{found.session_parameters:,}", words))
    for name, value, words in (
        ("forward, one pair", found.forward_gflops, f"GFLOP, texts of {found.text_tokens} tokens"),
        ("training step, one pair", found.training_gflops, "GFLOP, forward and backward"),
    ):
        rows.append((name, f"{value:,.3f}", words))
    if memory is None:
        rows.append(("peak memory", "not measured", "--measure runs one training step"))
    else:
        words = f"MiB above the libraries, {memory.batch_size} pairs; with the backbone loaded {memory.backbone:,.0f}"
        rows.append(("peak memory, training step", f"{memory.peak:,.0f}", words))
    lines = (f"  {name:<32}{value:>15}   {words}".rstrip() for name, value, words in rows)
    return "\n".join([f"{found.method} on {found.backbone}", *lines])
