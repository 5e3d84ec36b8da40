"""The Python API of classification: `Classifier`."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch
from torch import Tensor

from interplay import artifacts
from interplay.classification.predict import evaluate, predict
from interplay.classification.probe import fit_probe, fit_threshold
from interplay.data.batches import EncodedTable
from interplay.data.image_cache import ImageCache
from interplay.data.images import ImageSource, decode
from interplay.data.readers import load
from interplay.data.schema import PairTable, Split
from interplay.errors import InterplayError, unknown
from interplay.methods.base import choose, make_settings
from interplay.metrics.calibration import Calibration, CalibrationReport, fit_calibration
from interplay.metrics.classification import Kind, classification_metrics, negative_log_likelihood
from interplay.parts.heads import HeadSettings
from interplay.tasks.classify import MultiLoss, PairClassifier
from interplay.towers.backbone import Backbone, as_backbone
from interplay.towers.preprocessing import to_square
from interplay.training.settings import TrainSettings
from interplay.training.train import FitReport, fit

_log = logging.getLogger(__name__)

Data = str | PairTable
ABSTAINED = ""
"""The answer of a classifier that abstains."""
_CALIBRATED = ("nll", "calibration_error")
"""What the model card tells of the calibrated probabilities, on the pairs that they were calibrated on."""


def as_table(data: Data) -> PairTable:
    """A table from its name, path or itself."""
    return load(data) if isinstance(data, str) else data


def encode_table(table: PairTable, backbone: Backbone, *, reserve: int = 0) -> EncodedTable:
    """The pairs of a table as a backbone reads them, pictures through the image cache; says how many texts were cut."""
    before = backbone.truncated
    encoded = EncodedTable.from_table(table, backbone, ImageCache(square=backbone.square), reserve=reserve)
    if cut := backbone.truncated - before:
        room = backbone.text.shape.positions - reserve
        _log.warning("%s: %d of %d texts were cut to %d tokens.", table.name, cut, len(table), room)
    return encoded


def encode_inputs(
    images: Sequence[ImageSource], texts: Sequence[str], backbone: Backbone, *, reserve: int = 0
) -> EncodedTable:
    """Pairs from memory or single files as a backbone reads them.

    Raises:
        InterplayError: not as many images as texts, an image that cannot be read, an empty text.
    """
    if len(images) != len(texts):
        raise InterplayError(
            f"Every pair needs an image and a text: got {len(images)} images, {len(texts)} texts."
        )
    for at, text in enumerate(texts):
        if not text.strip():
            raise InterplayError(f"Pair {at + 1} has an empty text.")
    size = backbone.image_size
    pixels = np.empty((len(images), 3, size, size), dtype=np.uint8)
    for at, source in enumerate(images):
        name = str(source) if isinstance(source, (str, Path)) else f"image {at + 1}"
        pixels[at] = to_square(decode(source, name), backbone.square)
    return EncodedTable.from_arrays(
        backbone, pixels, list(texts), kind="pairs", name="input", reserve=reserve
    )


class Classifier(artifacts.Pretrained, library_name="interplay"):
    """Classify image-text pairs with a small trained method on a frozen dual encoder.

    Args:
        backbone: a name as `load_backbone` takes it, or a loaded backbone to share.
        method: a method or variant (`interplay methods` lists them).
        labels: class names in the order of the logits; by default those of the training data.
        kind: `single` label or `multi` label; by default that of the training data.
        settings: changes to the method's settings.
        head: changes to `HeadSettings`.
        multi_loss: the loss for several labels.
        seed: of the method's and the head's first weights.

    Raises:
        InterplayError: an unknown backbone, method or setting, or a contradiction between settings.
    """

    def __init__(
        self,
        backbone: str | Backbone = "tiny",
        method: str = "mitp",
        labels: Sequence[str] | None = None,
        *,
        kind: Kind | None = None,
        settings: Mapping[str, Any] | None = None,
        head: Mapping[str, Any] | None = None,
        multi_loss: MultiLoss = "bce",
        seed: int = 0,
    ) -> None:
        choice = choose(method)
        choice.settings(settings)  # contradictions come out before anything is loaded
        self.method_name = choice.name
        self.settings = dict(settings or {})
        self.head = dict(head or {})
        self.kind = kind
        self.multi_loss: MultiLoss = multi_loss
        self.seed = seed
        self.labels = None if labels is None else tuple(labels)
        for given in (self.head, self._head_settings()):
            make_settings(HeadSettings, given, "the head")
        if multi_loss not in get_args(MultiLoss):
            raise unknown("multi_loss", multi_loss, get_args(MultiLoss))
        self.backbone = as_backbone(backbone)
        self.model: PairClassifier | None = None
        self.card: artifacts.Card | None = None

    def _head_settings(self) -> dict[str, Any]:
        """The head's settings: probes bring their own, and what is not trained reads class texts."""
        method = choose(self.method_name)
        built = method.settings(self.settings)
        if method.method.solver == "logistic":
            features = getattr(built, "features", None) or method.method.features
            return {"kind": "linear", "features": features}
        if method.method.solver == "none":
            read = ("query", "class_text", "template")
            return {**{key: value for key, value in self.head.items() if key in read}, "kind": "class_text"}
        return self.head

    def _kind_of(self, table: PairTable) -> Kind:
        """The table's kind of labels; refuses one without labels, or of the other kind than the classifier's."""
        if table.kind == "pairs":
            raise InterplayError(
                f"{table.name} has no labels: a Classifier needs a 'label' or 'labels' column."
            )
        if self.kind not in (None, table.kind):
            words = {"single": "one label a row", "multi": "several labels a row"}
            done = "made" if self.model is None else "trained"
            raise InterplayError(
                f"{table.name} has {words[table.kind]}, this classifier was {done} for {words[self.kind]}."
            )
        return table.kind

    def _begin(self, table: PairTable) -> PairTable:
        """A fresh model for a table's classes; returns the table with its classes in the order of the labels."""
        self.kind = kind = self._kind_of(table)
        if self.labels is not None and set(self.labels) != set(table.classes):
            raise InterplayError(
                f"{table.name} has the classes {', '.join(table.classes)}; the classifier was made for "
                f"{', '.join(self.labels)}."
            )
        if self.labels is not None:
            table = replace(table, classes=self.labels)
        self.labels = table.classes
        self.card = artifacts.Card(
            method=self.method_name,
            settings=self.settings,
            head=self._head_settings(),
            labels=table.classes,
            class_texts=tuple(table.class_texts()),
            kind=kind,
            multi_loss=self.multi_loss,
            backbone=self.backbone.name,
            backbone_digest=self.backbone.digest,
            data=table.name,
            version=artifacts.version(),
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.model = artifacts.build(self.card, self.backbone)
            self.model.method.start_from(self.backbone)
        return table

    def fit(
        self,
        data: Data,
        *,
        settings: TrainSettings | None = None,
        run: str | Path | None = None,
        resume: bool = False,
    ) -> FitReport:
        """Train on the `train` split, with everything that is chosen chosen on `validation`.

        What fails leaves the classifier as it was.

        Args:
            data: a table, or what `interplay.data.load` takes.
            settings: how to train; probes and zero-shot need none of it.
            run: folder for checkpoints, logs and the trained method; by default a temporary one.
            resume: go on in `run` where a killed training stopped.

        Raises:
            InterplayError: data that cannot be used, a loss that is not finite, a full disk.
        """
        before = self.model, self.card, self.labels, self.kind
        try:
            return self._fit(as_table(data), settings or TrainSettings(seed=self.seed), run, resume=resume)
        except BaseException:
            self.model, self.card, self.labels, self.kind = before
            raise

    def _fit(
        self, table: PairTable, settings: TrainSettings, run: str | Path | None, *, resume: bool
    ) -> FitReport:
        """`fit`; what fails leaves a half-made model behind."""
        table = self._begin(table)
        assert self.model is not None
        assert self.card is not None
        train, validation = (
            encode_table(table.split(name), self.backbone, reserve=self.model.reserve)
            for name in ("train", "validation")
        )
        solver = self.model.method.solver
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(run) if run is not None else Path(scratch)
            if solver == "gradient":
                if self.model.head.settings.start == "probe":
                    penalty = self.model.head.settings.start_penalty
                    fit_probe(self.model, self.backbone, train, validation, inverse_penalty=penalty)
                report = fit(self.model, self.backbone, train, validation, settings, folder, resume=resume)
            else:
                report = self._fit_closed(train, validation)
            self.model.eval()
            self.card = replace(
                self.card,
                metrics={
                    f"validation_{name}": value
                    for name, value in evaluate(self.model, self.backbone, validation).items()
                },
                training=asdict(settings) if solver == "gradient" else {},
            )
            if run is not None:
                self.save_pretrained(folder)
        return report

    def _ready(self) -> PairClassifier:
        if self.model is None:
            raise InterplayError(
                "This Classifier is not trained yet: call fit, or load one with from_pretrained."
            )
        return self.model

    def _fit_closed(self, train: EncodedTable, validation: EncodedTable) -> FitReport:
        """Fit what is not trained by gradient: a probe, or for zero-shot with several labels a threshold."""
        model = self._ready()
        start, monitor = time.perf_counter(), model.monitors[0]
        if model.method.solver == "logistic":
            probe = fit_probe(model, self.backbone, train, validation)
            value, parameters = probe.value, probe.parameters
        elif model.kind == "multi":
            value, parameters, monitor = fit_threshold(model, self.backbone, validation), 1, "f1_micro"
        else:
            value, parameters = evaluate(model, self.backbone, validation)["accuracy"], 0
        seconds = time.perf_counter() - start
        return FitReport(1, value, monitor, [], seconds, seconds, 0, parameters)

    def logits(self, data: Data, split: Split = "test") -> tuple[Tensor, Tensor]:
        """Logits (N, K) of one split, before any calibration, and its targets.

        Raises:
            InterplayError: no such split, no labels, labels of the other kind, or classes other than those that were
                trained.
        """
        model = self._ready()
        table = as_table(data)
        self._kind_of(table)
        if self.labels is None or not {*table.classes} <= {*self.labels}:
            raise InterplayError(
                f"{table.name} has the classes {', '.join(table.classes)}, this classifier knows "
                f"{', '.join(self.labels or ())}."
            )
        table = replace(table.split(split), classes=self.labels)
        encoded = encode_table(table, self.backbone, reserve=model.reserve)
        assert encoded.targets is not None
        return predict(model, self.backbone, encoded), encoded.targets

    def evaluate(self, data: Data, split: Split = "test") -> dict[str, float]:
        """Metrics on one split (`interplay.metrics.classification.classification_metrics`).

        Raises:
            InterplayError: no such split, or classes other than those that were trained.
        """
        logits, targets = self.logits(data, split)
        return classification_metrics(self.probabilities(logits), targets, self._ready().kind)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (N, K) as of `logits` → probabilities, calibrated where the classifier is."""
        return self._ready().probabilities(logits)

    def calibrate(self, data: Data) -> CalibrationReport:
        """Choose the temperature of the probabilities on the `validation` split; no other split is read.

        From then on `predict_proba`, `evaluate` and what is saved use it. Calibrating again starts from the bare
        logits, training again does away with it.

        Args:
            data: a table, or what `interplay.data.load` takes.

        Raises:
            InterplayError: as `evaluate`; no temperature is the best (`fit_calibration`).
        """
        model = self._ready()
        assert self.card is not None
        logits, targets = self.logits(data, "validation")

        def figures() -> dict[str, float]:
            nll = negative_log_likelihood(model.calibration(logits), targets)
            return {"nll": nll} | classification_metrics(model.probabilities(logits), targets, model.kind)

        found = fit_calibration(logits, targets, model.kind)
        model.calibration = Calibration()
        before = figures()
        model.calibration = found
        after = figures()
        self.card = replace(
            self.card,
            temperature=found.temperature,
            shift=found.shift,
            metrics={**self.card.metrics} | {f"calibrated_{name}": after[name] for name in _CALIBRATED},
        )
        return CalibrationReport(found, len(targets), before, after)

    def predict_proba(self, images: Sequence[ImageSource], texts: Sequence[str]) -> Tensor:
        """Probabilities of the classes: (pairs, classes).

        Args:
            images: paths, bytes or PIL images, one a pair.
            texts: one a pair.

        Raises:
            InterplayError: as many images as texts are needed; an image that cannot be read; an empty text.
        """
        model = self._ready()
        table = encode_inputs(images, texts, self.backbone, reserve=model.reserve)
        return model.probabilities(predict(model, self.backbone, table))

    def predict(
        self, images: Sequence[ImageSource], texts: Sequence[str], *, abstain_below: float | None = None
    ) -> list[str] | list[list[str]]:
        """The most probable class of each pair; for several labels, all classes above one half.

        Args:
            images, texts: as `predict_proba`.
            abstain_below: answer an empty text where even the highest probability is smaller, in (0, 1].

        Raises:
            InterplayError: as `predict_proba`; `abstain_below` with several labels, or outside (0, 1].
        """
        self.check_abstaining(abstain_below)
        return self.decide(self.predict_proba(images, texts), abstain_below=abstain_below)

    def check_abstaining(self, abstain_below: float | None) -> None:
        """Whether a classifier can abstain there.

        Raises:
            InterplayError: with several labels, or outside (0, 1].
        """
        if abstain_below is None:
            return
        if self.kind != "single":
            raise InterplayError(
                "Abstaining is for classifiers with one label a pair: with several labels a pair may have none anyway."
            )
        if not 0 < abstain_below <= 1:
            raise InterplayError(f"abstain_below is a probability above 0 and up to 1, not {abstain_below}.")

    def decide(
        self, probabilities: Tensor, *, abstain_below: float | None = None
    ) -> list[str] | list[list[str]]:
        """Probabilities (pairs, classes) → what `predict` says of them."""
        assert self.labels is not None
        if self.kind == "single":
            least = 0.0 if abstain_below is None else abstain_below
            highest, best = probabilities.max(dim=1)
            return [
                self.labels[at] if value >= least else ABSTAINED
                for at, value in zip(best.tolist(), highest.tolist(), strict=True)
            ]
        return [
            [label for label, value in zip(self.labels, row, strict=True) if value > 0.5]
            for row in probabilities.tolist()
        ]

    def _save_pretrained(self, save_directory: Path) -> None:
        model = self._ready()
        assert self.card is not None
        artifacts.save(Path(save_directory), model, self.card)

    @classmethod
    def _opened(cls, folder: Path, backbone: str | Backbone | None) -> Self:
        card = artifacts.read_card(folder)
        loaded = as_backbone(backbone or card.backbone)
        model, card = artifacts.load(folder, loaded)
        classifier = cls(
            loaded,
            card.method,
            card.labels,
            kind=card.kind,
            settings=card.settings,
            head=card.head,
            multi_loss=card.multi_loss,
        )
        classifier.model, classifier.card = model, card
        return classifier
