"""`interplay refresh`: a gallery, brought up to date with its retriever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from interplay.cli.open_gallery import open_gallery
from interplay.cli.options import Further
from interplay.cli.result import Result
from interplay.gallery.address import ServerSettings

if TYPE_CHECKING:
    pass

GROUP = "Gallery"


def refresh(
    run: str,
    *,
    gallery: str | None = None,
    collection: str = "interplay",
    batch_size: int = 64,
    backbone: str | None = None,
    progress: bool = True,
    settings: Annotated[Mapping[str, Any] | None, Further(ServerSettings, "Server")] = None,
) -> Result:
    """Bring a gallery up to date with a retriever that has learned or forgotten a task.

    Example: interplay refresh runs/lpi

    Only entries that belong to another task now, or whose task's prompts changed, are encoded again; what they were
    before is in no file of the gallery's folder then. A picture that is no longer on the disk keeps its entry and is
    named ('interplay prune' takes it out).

    Args:
        run: the folder that 'interplay continual --out' wrote.
        gallery: as in 'interplay index'; by default gallery.db in RUN.
        collection: the gallery's name in that folder or on that server.
        batch_size: how many are written at a time.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        progress: show progress bars.
    """
    with open_gallery(run, gallery, collection, backbone, settings) as found:
        report = found.refresh(batch_size=batch_size, progress=progress)
    text = (
        f"{report.scanned:,} entries looked at in {report.seconds:.1f} s: {report.rerouted:,} belong to another task "
        f"now, {report.reencoded:,} were encoded again."
    )
    text += "".join(f"\nNo longer on the disk: {source}" for source in report.missing)
    return Result({"run": run, **asdict(report)}, text)
