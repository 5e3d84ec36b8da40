"""`interplay demo`: one task, seven methods, a table and two pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, columns, note
from interplay.cli.runs import open_backbone
from interplay.errors import InterplayError
from interplay.seeds import check_seed

if TYPE_CHECKING:
    from interplay.classification.classifier import Classifier
    from interplay.data.schema import PairTable
    from interplay.towers.backbone import Backbone

GROUP = "Start here"

DATA, BACKBONE, SHOWN = "openmoji/relation", "tiny", "mitp"
HEAD = {"kind": "pair", "start": "probe"}
"""The one head under all methods that are trained by gradient; it starts at the logistic regression."""
TRAINING = {"epochs": 4, "learning_rate": 5e-3, "batch_size": 64}
"""How they are trained, all alike: the only place for these numbers."""
PICTURES = 8
DEMO, SEARCHED = "demo-out", "retrieval"
"""The folder that it writes by default, and the one in it where 'interplay serve --demo' finds that of retrieval."""


@dataclass(frozen=True)
class Entry:
    """One method of the demo.

    Attributes:
        method: its name.
        training: changes to `TrainSettings`, for methods that are trained by gradient.
    """

    method: str
    training: Mapping[str, Any] = field(default_factory=dict)


ENTRIES = (
    Entry("zero_shot"),
    Entry("text_probe"),
    Entry("image_probe"),
    Entry("linear_probe"),
    Entry("linear_probe-pair"),
    Entry("p_clip", TRAINING),
    Entry("mitp", {**TRAINING, "cache_prefix": True}),
)
"""What is compared; the prefix cache saves time and changes no result."""


def demo(*, out: str = DEMO, epochs: int | None = None, seed: int = 0) -> Result:
    """Train MITP on embedded data and set it beside zero-shot, four probes and P-CLIP.

    Example: interplay demo --out demo-out

    The task is openmoji/relation: does this text name the emoji in the picture, a sibling of it, or something
    unrelated? Neither picture nor text can tell alone. Takes a few minutes on two cores, needs no network, and writes
    two pictures, the table as JSON, and the trained MITP into the folder.

    Args:
        out: folder for everything that it writes; files of an earlier demo are replaced.
        epochs: passes over the data for the methods that are trained by gradient; by default a few each.
        seed: of weights and of the order of the data.
    """
    if epochs is not None and epochs < 1:
        raise InterplayError(f"--epochs must be at least 1, not {epochs}.")
    from interplay.data import load

    check_seed(seed)
    folder = out_folder(out)
    folder.mkdir(parents=True, exist_ok=True)  # fails now, if at all
    note(f"Loading {DATA} and the bundled backbone '{BACKBONE}' (the pictures are drawn once and then kept).")
    table, backbone = load(DATA), open_backbone(BACKBONE)
    rows = []
    for number, entry in enumerate(ENTRIES, start=1):
        note(f"[{number}/{len(ENTRIES)}] {entry.method}")
        classifier, row = _row(entry, backbone, table, epochs, seed)
        rows.append(row)
        if entry.method == SHOWN:
            classifier.save_pretrained(folder / SHOWN)
            _draw_predictions(classifier, table, folder / "predictions.png", seed)
    return _report(rows, table, folder, seed)


def _row(
    entry: Entry, backbone: Backbone, table: PairTable, epochs: int | None, seed: int
) -> tuple[Classifier, dict[str, Any]]:
    """Train and test one method."""
    from interplay.classification.classifier import Classifier
    from interplay.training.settings import TrainSettings

    changes = dict(entry.training) | ({"epochs": epochs} if epochs is not None else {})
    begun = time.monotonic()
    classifier = Classifier(backbone, entry.method, head=HEAD, seed=seed)
    classifier.fit(table, settings=TrainSettings(**changes, seed=seed))
    metrics = classifier.evaluate(table, "test")
    assert classifier.model is not None
    method, head = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (classifier.model.method, classifier.model.head)
    )
    return classifier, {
        "method": entry.method,
        "accuracy": metrics["accuracy"],
        "macro_accuracy": metrics["macro_accuracy"],
        "method_parameters": method,
        "head_parameters": head,
        "seconds": time.monotonic() - begun,
        "training": changes if classifier.model.method.traits.solver.by_gradient else {},
    }


def _draw_predictions(classifier: Classifier, table: PairTable, path: Path, seed: int) -> None:
    """A picture of a few test pairs, drawn at random, not chosen."""
    import numpy as np

    from interplay.plotting.figures import Prediction, predictions

    test = table.split("test")
    picked = np.random.default_rng(seed).choice(len(test), size=min(PICTURES, len(test)), replace=False)
    sample = test.select(sorted(picked.tolist()))
    images = [sample.image(row) for row in range(len(sample))]
    assert classifier.labels is not None
    found = []
    probabilities = classifier.predict_proba(images, sample.texts())
    for image, text, labels, row in zip(images, sample.texts(), sample.labels(), probabilities, strict=True):
        at = int(row.argmax())
        found.append(Prediction(image, text, labels[0], classifier.labels[at], float(row[at])))
    title = f"{classifier.method_name} on {DATA}: {len(found)} test pairs drawn at random"
    predictions(found, path, title)


def _report(rows: list[dict[str, Any]], table: PairTable, folder: Path, seed: int) -> Result:
    """The table, its picture and its JSON, and where everything is."""
    from interplay.files import write_text
    from interplay.plotting.figures import Point, accuracy_against_parameters

    points = [
        Point(row["method"], row["method_parameters"] + row["head_parameters"], row["accuracy"])
        for row in rows
    ]
    picture = accuracy_against_parameters(
        points, folder / "accuracy.png", f"{DATA}, frozen backbone '{BACKBONE}': test accuracy of one run"
    )
    sizes = table.splits()
    data = {"data": DATA, "backbone": BACKBONE, "seed": seed, "splits": sizes, "rows": rows}
    write_text(folder / "results.json", json.dumps(data, indent=2) + "\n")
    header = ("method", "test accuracy", "macro accuracy", "method parameters", "head parameters", "seconds")
    cells = [
        (
            row["method"],
            row["accuracy"],
            row["macro_accuracy"],
            row["method_parameters"],
            row["head_parameters"],
            round(row["seconds"]),
        )
        for row in rows
    ]
    files = {
        "picture": str(picture),
        "predictions": str(folder / "predictions.png"),
        "results": str(folder / "results.json"),
        "trained": str(folder / SHOWN),
    }
    return Result(
        data | {"files": files}, f"{_heading(sizes)}\n\n{columns(header, cells)}\n\n{_where(files)}"
    )


def _heading(sizes: Mapping[str, int]) -> str:
    return (
        f"{DATA} on the frozen backbone '{BACKBONE}': trained on {sizes['train']:,} pairs, tested on "
        f"{sizes['test']:,}, one seed."
    )


def _where(files: Mapping[str, str]) -> str:
    folder = Path(files["trained"]).parent
    served = "--demo" if folder == Path(DEMO) else f"--models {folder}"
    return f"""accuracy against trained parameters  {files["picture"]}
a few test pairs, drawn at random    {files["predictions"]}
this table                           {files["results"]}
the trained {SHOWN}                     {files["trained"]}

Next:
  interplay serve {served}    (then open http://127.0.0.1:8000/ui in a browser)
  interplay evaluate {files["trained"]} --split validation
  interplay data show {DATA} --out sheet.png
  interplay train --data YOUR.csv --out runs/yours    (columns image, text, label)"""
