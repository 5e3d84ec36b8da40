"""`interplay train`: a method on data, into a run folder."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interplay.cli.chosen_method import ChosenMethod
from interplay.cli.data_options import Reading
from interplay.cli.options import Further
from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, note
from interplay.cli.result import columns as aligned
from interplay.cli.runs import note_depth, open_backbone, open_table
from interplay.cli.standings import standings
from interplay.errors import InterplayError
from interplay.key_value import given, spelled
from interplay.methods.catalogue import DEFAULT_METHOD
from interplay.settings import make_settings
from interplay.training.settings import TrainSettings

if TYPE_CHECKING:
    from interplay.classification.classifier import Classifier
    from interplay.data.schema import PairTable
    from interplay.towers.backbone import Backbone

GROUP = "Classify"


def train(
    *,
    data: str,
    out: str,
    method: str = DEFAULT_METHOD,
    backbone: str = "tiny",
    set: tuple[str, ...] = (),
    head: tuple[str, ...] = (),
    multi_loss: Literal["bce", "zlpr"] = "bce",
    share: float = 1.0,
    columns: tuple[str, ...] = (),
    validation: str | None = None,
    test: str | None = None,
    split: str | None = None,
    seeds: int = 1,
    resume: bool = False,
    random_weights: bool = False,
    on_bad_row: Literal["error", "skip"] = "error",
    settings: Annotated[Mapping[str, Any] | None, Further(TrainSettings, "Training")] = None,
) -> Result:
    """Train a method on a data set and keep it in a run folder.

    Examples:

      interplay train --data pairs.csv --out runs/mine
      interplay train --data openmoji/subgroup --preset fast --out runs/subgroup
      interplay train --data openmoji/subgroup --preset thorough --method auto --out runs/thorough
      interplay train --method mitp --data pairs.csv --head kind=pair --set layers=4,5,6 --epochs 5 --out runs/mitp
      interplay train --data train.csv --test test.csv --split 90/10/0 --columns text=title --out runs/mine
      interplay train --config runs/subgroup/config.yaml --out runs/again --seed 1

    First it fits simple heads on the frozen vectors, in seconds, and prints what each is worth. It starts from the best
    one, and training is kept only where it beats this start beyond noise. --preset says how much is tried: `fast` the
    heads alone, `auto` one training, `thorough` several; the time that this takes is told when it begins. Trains on the
    `train` split and chooses everything on `validation` (with few pairs by cross-validation over both); the `test`
    split is only read by 'interplay evaluate'. The folder gets the trained method (method.safetensors, config.json,
    README.md), config.yaml (what ran; --config reads it again), metrics.jsonl, env.json and checkpoints for --resume.

    Args:
        data: an embedded data set ('interplay data list'), a file, a folder, or a hub id.
        out: the run folder.
        method: a method or variant, see 'interplay methods'; `auto` tries LoRA, MITP and P-CLIP and keeps the best one.
        backbone: `tiny`, a preset such as clip-vit-large-patch14, a folder with a CLIP checkpoint, or a hub id.
        set: changes to the method's settings, key=value each, as `layers=4,5,6 interaction=naive`.
        head: changes to the head's settings, key=value each: kind=auto|class_text|learned|pair|linear|kernel|bilinear,
            query, class_text=separate|joint|prompted, template, features, rank, start, start_penalty.
        multi_loss: loss for data with several labels a row.
        share: share of the training rows to use, above 0 and up to 1, drawn within each class by the seed.
        columns: what the columns are called in your data, key=value each, as `image=path text=title label=kind`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        validation: data whose rows are the validation split; those of --data are then train.
        test: data whose rows are the test split.
        split: shares of train, validation and test for data without a split, as 80/10/10.
        seeds: how many runs, with seeds that count up from --seed, each in its own folder OUT/seed-N.
        resume: go on in OUT where a run with the same options was interrupted.
        random_weights: random weights for the backbone, to measure speed and memory; results mean nothing.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    if seeds < 1:
        raise InterplayError(f"--seeds must be at least 1, not {seeds}.")
    if not 0 < share <= 1:
        raise InterplayError(f"--share must lie in (0, 1], not {share}.")
    out_folder(out)
    reading = Reading.of(columns, validation, test, split)
    chosen = ChosenMethod.of(method, set, head, auto=True)
    from interplay.training.run_record import recorded_run

    training: TrainSettings = make_settings(TrainSettings, settings or {}, "training")
    config = {
        "data": data,
        **chosen.config(backbone),
        "multi_loss": multi_loss,
        "share": share,
        "random_weights": random_weights,
        "on_bad_row": on_bad_row,
        **reading.given,
    }
    loaded = open_backbone(backbone, random_weights=random_weights)
    note_depth(chosen.changes, loaded)
    table = open_table(data, on_bad_row, reading)
    runs = []
    for seed in range(training.seed, training.seed + seeds):
        folder = Path(out) / f"seed-{seed}" if seeds > 1 else Path(out)
        one = replace(training, seed=seed)
        part = table.with_share(share, seed)
        with recorded_run(folder, config | given(one), resume=resume):
            runs.append(_train_one(loaded, chosen, multi_loss, part, one, folder, resume))
    return _summed(runs, out)


def _train_one(
    backbone: Backbone,
    chosen: ChosenMethod,
    multi_loss: Literal["bce", "zlpr"],
    table: PairTable,
    training: TrainSettings,
    folder: Path,
    resume: bool,
) -> dict[str, Any]:
    """One run; what is worth printing of it."""
    from interplay.classification.classifier import Classifier
    from interplay.ranks import follows
    from interplay.training.run_record import add_remark

    classifier = Classifier(
        backbone,
        chosen.name,
        settings=chosen.changes,
        head=chosen.head or {},
        multi_loss=multi_loss,
        seed=training.seed,
    )
    if told := _time(classifier, training, table):
        note(told)
    report = classifier.fit(table, settings=training, run=folder, resume=resume)
    card = classifier.card
    assert card is not None
    if chosen.automatic and not follows(training.devices):
        add_remark(folder, f"chosen: {card.method} {spelled(card.settings)}")
    return {
        "run": str(folder),
        "seed": training.seed,
        "method": card.method,
        "validation": {name.removeprefix("validation_"): value for name, value in card.metrics.items()},
        "trained_parameters": report.parameters,
        "best_epoch": report.best_epoch,
        "seconds": report.seconds,
        "monitor": report.monitor,
        "table": [asdict(one) for one in report.table],
        "notes": list(report.notes),
    }


def _time(classifier: Classifier, training: TrainSettings, table: PairTable) -> str:
    """What the preset takes, in a sentence; nothing where the head is not fitted first."""
    from interplay.classification.budget import budget

    if not classifier.starts_fitted:
        return ""
    found = budget(training, max(1, len(classifier.rivals)), table, classifier.backbone)
    return f"Preset {training.preset}: {found}."


def _summed(runs: list[dict[str, Any]], out: str) -> Result:
    """One run as it is, several with their mean and deviation."""
    first = runs[0]
    if len(runs) == 1:
        rows: list[tuple[object, ...]] = list(first["validation"].items())
        text = aligned(("validation", "value"), rows)
        text += f"\n\n{first['method']}: {first['trained_parameters']:,} trained parameters, "
        text += f"{first['seconds']:.0f} seconds."
        if worth := standings(first["monitor"], first["table"], first["notes"]):
            text = f"{worth}\n\n{text}"
        return Result(first, f"{text}\nThe trained method is in {out}. Measure it on test: {_next(out)}")
    summary = {
        name: {"mean": statistics.mean(values), "deviation": statistics.stdev(values)}
        for name in first["validation"]
        for values in [[run["validation"][name] for run in runs]]
    }
    rows = [
        (name, f"{value['mean']:.3f} ± {value['deviation']:.3f}", *(run["validation"][name] for run in runs))
        for name, value in summary.items()
    ]
    text = aligned(("validation", "mean ± deviation", *(f"seed {run['seed']}" for run in runs)), rows)
    told = [f"seed {run['seed']}: {note}" for run in runs for note in run["notes"]]
    text = "\n".join([text, "", *told] if told else [text])
    text += f"\n\nThe trained methods are in {out}/seed-*. Measure one on test: {_next(first['run'])}"
    return Result({"runs": runs, "validation": summary}, text)


def _next(folder: str) -> str:
    return f"interplay evaluate {folder} --split test"
