"""`interplay tune`: a search over the settings of a method and of its training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml

from interplay.cli.chosen_method import ChosenMethod
from interplay.cli.data_options import Reading
from interplay.cli.options import Further
from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, note
from interplay.cli.result import columns as aligned
from interplay.cli.runs import open_backbone, open_table
from interplay.errors import InterplayError
from interplay.files import write_text
from interplay.key_value import given, spelled
from interplay.methods.catalogue import DEFAULT_METHOD
from interplay.settings import make_settings
from interplay.training.settings import TrainSettings

if TYPE_CHECKING:
    from interplay.tuning.search import SearchReport

GROUP = "Classify"

BEST = "best.yaml"
_SHOWN = 5


def tune(
    *,
    data: str,
    out: str,
    minutes: float,
    method: str = DEFAULT_METHOD,
    backbone: str = "tiny",
    set: tuple[str, ...] = (),
    head: tuple[str, ...] = (),
    multi_loss: Literal["bce", "zlpr"] = "bce",
    trials: int | None = None,
    columns: tuple[str, ...] = (),
    validation: str | None = None,
    test: str | None = None,
    split: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    settings: Annotated[Mapping[str, Any] | None, Further(TrainSettings, "Training", shown=False)] = None,
) -> Result:
    """Search the settings of a method and of its training that are best on validation, for some minutes.

    Examples:

      interplay tune --method mitp --data openmoji/relation --head kind=pair --out runs/search --minutes 10
      interplay tune --data pairs.csv --out runs/search --minutes 60 --set rank=8 --epochs 20 --monitor f1_macro

    A value given by --set or as an option of training is fixed; the rest of what the method declares is searched by
    Optuna. The `test` split is not read. The folder gets every trial (trials.jsonl, search.db) and the best settings
    (best.yaml, for 'interplay train --config'). The same command again goes on where a killed search stopped, and with
    more minutes where one has ended.

    Args:
        data: an embedded data set ('interplay data list'), a file, a folder, or a hub id.
        out: the folder of the search.
        minutes: for all trials together, those before a resume included; no trial starts after that.
        method: a method or variant, see 'interplay methods'.
        backbone: `tiny`, a preset such as clip-vit-large-patch14, a folder with a CLIP checkpoint, or a hub id.
        set: fixed settings of the method, key=value each, as `layers=4,5,6`.
        head: changes to the head's settings, key=value each, as for 'interplay train'; the head is not searched.
        multi_loss: loss for data with several labels a row.
        trials: a bound on the number of trials, those before a resume included.
        columns: what the columns are called in your data, key=value each, as `image=path text=title label=kind`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        validation: data whose rows are the validation split; those of --data are then train.
        test: data whose rows are the test split.
        split: shares of train, validation and test for data without a split, as 80/10/10.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    from interplay.tuning.study import need_optuna

    need_optuna()
    from interplay.tuning.search import search

    asked = _Asked(
        data,
        backbone,
        ChosenMethod.of(method, set, head),
        multi_loss,
        on_bad_row,
        Reading.of(columns, validation, test, split),
        out_folder(out),
    )
    make_settings(TrainSettings, settings or {}, "training")
    report = search(
        open_backbone(backbone),
        asked.chosen.name,
        open_table(data, on_bad_row, asked.reading),
        asked.folder,
        minutes=minutes,
        trials=trials,
        settings=asked.chosen.changes,
        head=asked.chosen.head,
        training=settings,
        multi_loss=multi_loss,
        after=asked.note_trial,
    )
    asked.write_best(report)
    if report.best is None:
        raise InterplayError(
            f"None of {len(report.trials)} trials came to a value within {minutes:g} minutes: see "
            f"{asked.folder}/trials.jsonl, or give more minutes."
        )
    return _told(report, asked.folder, asked.command(report))


@dataclass(frozen=True)
class _Asked:
    """What is the same in all trials, and where they go."""

    data: str
    backbone: str
    chosen: ChosenMethod
    multi_loss: str
    on_bad_row: str
    reading: Reading
    folder: Path

    def note_trial(self, report: SearchReport) -> None:
        """Tell what the last trial came to, and write what is best so far."""
        last, best = report.trials[-1], report.best
        came = last.reason if last.value is None else f"{report.monitor} {last.value:.4f}"
        told = f"; the best so far: {best.value:.4f} (trial {best.number})" if best else ""
        note(f"Trial {last.number}, {last.seconds:.0f} s, {last.state}: {came}{told}")
        self.write_best(report)

    def write_best(self, report: SearchReport) -> None:
        """Write the best settings as a file for 'interplay train --config', if any trial came to a value."""
        if report.best is None:
            return
        config = {
            "data": self.data,
            **self.chosen.config(self.backbone, report.settings),
            "multi_loss": self.multi_loss,
            "on_bad_row": self.on_bad_row,
            **self.reading.given,
            **given(report.training),
        }
        write_text(self.folder / BEST, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def command(self, report: SearchReport) -> str:
        """What trains with the best settings."""
        words = ["--data", self.data, "--method", self.chosen.name, "--backbone", self.backbone]
        words += ["--set", *spelled(report.settings)] if report.settings else []
        words += ["--head", *spelled(self.chosen.head)] if self.chosen.head else []
        words += ["--multi-loss", self.multi_loss] if self.multi_loss != "bce" else []
        words += ["--on-bad-row", self.on_bad_row] if self.on_bad_row != "error" else []
        words += [*self.reading.words(), *_flags(report.training), "--out", str(self.folder / "best")]
        return shlex.join(["interplay", "train", *words])


def _flags(training: Any) -> list[str]:
    """Settings of training that are not the usual ones, as options."""
    usual = asdict(type(training)())
    words: list[str] = []
    for name, value in asdict(training).items():
        flag = name.replace("_", "-")
        if value == usual[name]:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def _told(report: SearchReport, folder: Path, command: str) -> Result:
    """What came out, for machines and for people."""
    from interplay.training.settings import SMALLER_IS_BETTER

    assert report.best is not None
    counts = {
        state: sum(trial.state == state for trial in report.trials)
        for state in ("complete", "pruned", "failed")
    }
    found = {
        "out": str(folder),
        "monitor": report.monitor,
        "trials": counts,
        "seconds": report.seconds,
        "best": asdict(report.best),
        "command": command,
        "config": str(folder / BEST),
    }
    sign = 1 if report.monitor in SMALLER_IS_BETTER else -1
    ranked = sorted(
        (trial for trial in report.trials if trial.value is not None),
        key=lambda trial: (sign * (trial.value or 0.0), trial.number),
    )
    rows = [(trial.number, trial.value, _short(trial.values)) for trial in ranked[:_SHOWN]]
    counted = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    text = (
        f"{aligned(('trial', report.monitor, 'settings'), rows)}\n\n"
        f"{len(report.trials):,} trials ({counted}) in {report.seconds / 60:.1f} minutes, on validation; the best "
        f"of many flatters itself there. All are in {folder}/trials.jsonl. To train with the best:\n\n{command}\n\n"
        f"or: interplay train --config {shlex.quote(str(folder / BEST))} --out {shlex.quote(str(folder / 'best'))}"
    )
    return Result(found, text)


def _short(values: Mapping[str, Any]) -> str:
    """Values in one line."""
    parts = (
        f"{name.partition('.')[2]}={f'{value:.3g}' if isinstance(value, float) else value}"
        for name, value in values.items()
    )
    return " ".join(part.replace(" ", "") for part in parts)
