"""`interplay experiment …`: the MITP paper's experiments, each a grid with its table and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from interplay.cli.commands.compare import compared, report_cell
from interplay.cli.options import Further
from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result
from interplay.comparison.papers.experiments import Experiment
from interplay.errors import InterplayError
from interplay.key_value import assignments
from interplay.training.settings import TrainSettings

GROUP = "Compare"


def experiment(
    name: Experiment,
    *,
    out: str,
    data: tuple[str, ...] = (),
    seeds: int = 3,
    backbone: str = "tiny",
    head: tuple[str, ...] = (),
    multi_loss: Literal["bce", "zlpr"] | None = None,
    only: tuple[str, ...] = (),
    ray: str | None = None,
    cpus: int = 1,
    on_bad_row: Literal["error", "skip"] = "error",
    settings: Annotated[Mapping[str, Any] | None, Further(TrainSettings, "Training", shown=False)] = None,
) -> Result:
    """Run one of the MITP paper's experiments: a grid with its table and its picture.

    Examples:

      interplay experiment ablation --out runs/ablation
      interplay experiment shares --data openmoji/subgroup --seeds 1 --out runs/shares

    ablation: the head alone, with prompts, with naive interaction, with the memory hub, on the same layers (Table 2).
    interaction: three interaction layers at two distances under each similarity, and one layer alone (Figure 4; 27
    trainings a data set and seed).
    shares: MITP, P-CLIP and probes on 1, 5, 10, 30 and 100 % of the training data, a smaller share part of every larger
    one (Table 3).
    cost: quality against trained parameters and the memory of a training step (Figure 3).

    OUT gets the cells, table.md, table.html and NAME.png; killed, the same command goes on where it was. Training
    options that are not given are those that were chosen for the OpenMoji tasks.

    Args:
        name: which experiment.
        out: folder of the cells, tables and the picture.
        data: data sets; by default the three OpenMoji tasks.
        seeds: how many, from 0.
        backbone: `tiny`, a preset, a folder with a CLIP checkpoint, or a hub id; 12 layers a tower for `interaction`.
        head: changes to the head's settings, key=value each; by default kind=pair start=probe.
        multi_loss: loss for data with several labels a row.
        only: rows, data sets or seeds (as #0) to run.
        ray: address of a Ray cluster; by default one cell runs after the other here.
        cpus: threads of a cell.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            says how many.
    """
    from interplay.comparison.engine import Place
    from interplay.comparison.grid import make_grid
    from interplay.comparison.papers.experiments import OPENMOJI, changed, values_of
    from interplay.comparison.run import Conduct, run_part
    from interplay.comparison.tables import data_tables
    from interplay.parts.heads import HeadSettings
    from interplay.plotting.comparisons import PICTURES
    from interplay.training.settings import split_execution

    folder = out_folder(out)
    training, free = split_execution(settings or {})
    if seeds < 1 or "seed" in training:
        raise InterplayError("The seeds of an experiment count from 0: --seeds says how many, at least 1.")
    changes = {
        "head": assignments(head, HeadSettings, "--head"),
        "training": training,
        **({"multi_loss": multi_loss} if multi_loss else {}),
    }
    special = {source: changed(OPENMOJI.get(source, {}), changes) for source in data or OPENMOJI}
    values = values_of(name, special) | {"seeds": list(range(seeds)), "backbone": backbone}
    grid = make_grid(values, f"interplay experiment {name}")
    conduct, place = Conduct(name == "cost", free, on_bad_row), Place(cpus, ray=ray)
    records = run_part(grid, grid.only(only), folder, conduct, place, report=report_cell)
    result = compared(records, folder, f"Experiment: {name}")
    picture = PICTURES[name](data_tables(records), folder / f"{name}.png")
    files = result.data["files"] | {"picture": str(picture)}
    return Result(result.data | {"files": files}, f"{result.text} The picture is in {picture}.")
