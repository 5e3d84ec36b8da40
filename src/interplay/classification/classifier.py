"""The Python API of classification: `Classifier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, overload

import torch
from torch import Tensor

import interplay.artifacts as artifacts
from interplay.classification import artifact
from interplay.classification.calibrating import IN_THE_CARD, calibrated
from interplay.classification.deciding import check_abstaining, decided
from interplay.classification.model import MultiLoss, PairClassifier
from interplay.classification.report import Report, report
from interplay.data.picture_sources import Images, Words, text_list
from interplay.data.readers import Source, as_table
from interplay.data.schema import PairTable, Split
from interplay.devices import device_of
from interplay.encoding.inputs import encode_table, pairs_of
from interplay.encoding.predict import predict
from interplay.errors import InterplayError, shortlist, unknown, wrong_type
from interplay.methods.catalogue import AUTO, DEFAULT_METHOD, RIVALS
from interplay.methods.registry import choose
from interplay.metrics.calibration import CalibrationReport
from interplay.metrics.classification import Kind, classification_metrics
from interplay.parts.heads import HeadSettings
from interplay.ranks import follows
from interplay.seeds import check_seed
from interplay.settings import make_settings
from interplay.towers.backbone import Backbone, as_backbone
from interplay.training.report import FitReport
from interplay.training.settings import TrainSettings, training_settings
from interplay.typed import expect, fits

if TYPE_CHECKING:
    import pandas

Part = Split | Literal["all"]
"""A split of a table, or all its rows."""


class Classifier(artifacts.Pretrained, library_name="interplay"):
    """Classify image-text pairs with a small trained method on a frozen dual encoder.

    Args:
        backbone: a name or folder as `load_backbone` takes it, or a loaded backbone to share.
        method: a method or variant (`interplay methods` lists them); by default LoRA. `auto`: the best of LoRA, MITP
            and P-CLIP on validation; the card says which.
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
        backbone: str | Path | Backbone = "tiny",
        method: str = DEFAULT_METHOD,
        labels: Sequence[str] | None = None,
        *,
        kind: Kind | None = None,
        settings: Mapping[str, Any] | None = None,
        head: Mapping[str, Any] | None = None,
        multi_loss: MultiLoss = "bce",
        seed: int = 0,
    ) -> None:
        for argument, given in (("settings", settings), ("head", head)):
            expect(argument, given, Mapping | None)
        expect("method", method, str)
        self.rivals = RIVALS if method == AUTO else ()
        choice = choose(DEFAULT_METHOD if self.rivals else method)
        choice.settings(settings)  # contradictions come out before anything is loaded
        if self.rivals and settings:
            raise InterplayError("Settings are those of one method: name it, in place of 'auto'.")
        if not choice.method.traits.solver.classifies:
            raise InterplayError(
                f"'{method}' is for retrieval (interplay continual): it has nothing to classify with."
            )
        check_seed(seed)
        self.method_name = choice.name
        self.settings = dict(settings or {})
        self.head = dict(head or {})
        self.kind = kind
        self.multi_loss: MultiLoss = multi_loss
        self.seed = seed
        self.labels = None if labels is None else tuple(text_list(labels, "labels"))
        for changes in (self.head, self._head_settings()):
            made: HeadSettings = make_settings(HeadSettings, changes, "the head")
            if self.rivals and not made.fitted_first:
                raise InterplayError(
                    f"The method 'auto' compares trainings from a head that is fitted first, not from head.kind = "
                    f"{made.kind}: leave that at auto, or name a method."
                )
        if not fits(multi_loss, MultiLoss):
            raise unknown("multi_loss", multi_loss, get_args(MultiLoss))
        self.backbone = as_backbone(backbone)
        self.model: PairClassifier | None = None
        self.card: artifact.ClassifierCard | None = None

    def _head_settings(self) -> dict[str, Any]:
        """The head's settings: probes bring their own, and what is not trained reads class texts."""
        choice = choose(self.method_name)
        return choice.method.traits.solver.head(self.head, choice.settings(self.settings))

    def _method_settings(self) -> dict[str, Any]:
        """The method's settings: what is fitted in closed form first starts as the frozen model, where it can."""
        choice = choose(self.method_name)
        return choice.starting_frozen(self.settings) if self.starts_fitted else self.settings

    @property
    def starts_fitted(self) -> bool:
        """Whether `fit` begins with heads in closed form, and trains from the best one (`TrainSettings.preset`)."""
        head: HeadSettings = make_settings(HeadSettings, self._head_settings(), "the head")
        return choose(self.method_name).method.traits.solver.by_gradient and head.fitted_first

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
                f"{table.name} has the classes {shortlist(table.classes)}; the classifier was made for "
                f"{shortlist(self.labels)}."
            )
        if self.labels is not None:
            table = replace(table, classes=self.labels)
        self.labels = table.classes
        self.card = artifact.ClassifierCard(
            method=self.method_name,
            settings=self._method_settings(),
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
            self.model = artifact.build(self.card, self.backbone)
            self.model.method.start_from(self.backbone)
        return table

    def fit(
        self,
        data: Source,
        *,
        settings: TrainSettings | Mapping[str, Any] | None = None,
        run: str | Path | None = None,
        resume: bool = False,
    ) -> FitReport:
        """Train on the `train` split, with everything that is chosen chosen on `validation`.

        What fails leaves the classifier as it was.

        Args:
            data: a table, or what `interplay.data.load` takes.
            settings: how to train, or the changes to how it is done by default; probes and zero-shot need none of it.
            run: folder for checkpoints, logs and the trained method; by default a temporary one.
            resume: go on in `run` where a killed training stopped.

        Raises:
            InterplayError: data that cannot be used, a loss that is not finite, a full disk.
        """
        if not isinstance(run, str | Path | None):
            raise wrong_type("run", "a folder", run)
        before = self.model, self.card, self.labels, self.kind
        try:
            return self._fit(as_table(data), training_settings(settings, self.seed), run, resume=resume)
        except BaseException:
            self.model, self.card, self.labels, self.kind = before
            raise

    def _fit(
        self, table: PairTable, settings: TrainSettings, run: str | Path | None, *, resume: bool
    ) -> FitReport:
        """`fit`; what fails leaves a half-made model behind."""
        from interplay.classification.solving import fitted

        table = self._begin(table)
        assert self.model is not None
        assert self.card is not None
        self.card, report = fitted(
            self.model, self.card, self.backbone, table, settings, run, resume=resume, rivals=self.rivals
        )
        if run is not None and not follows(settings.processes):
            self.save_pretrained(Path(run))
        return report

    def _ready(self) -> PairClassifier:
        if self.model is None:
            raise InterplayError(
                "This Classifier is not trained yet: call fit, or load one with from_pretrained."
            )
        return self.model.to(self.backbone.device)

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, where it predicts, measures and calibrates from then on; returns itself.

        The backbone moves for all that share it, and they follow. Training chooses its own device
        (`TrainSettings.accelerator`) and comes back.

        Raises:
            InterplayError: there is no such device on this machine.
        """
        self.backbone.to(device_of(device))
        return self

    def logits(self, data: Source, split: Part = "test", *, batch_size: int = 64) -> tuple[Tensor, Tensor]:
        """Logits (N, K) of one split, before any calibration, and its targets, both on the CPU.

        Args:
            data: a table, or what `interplay.data.load` takes.
            split: a split, or `all` of the rows.
            batch_size: pairs at a time.

        Raises:
            InterplayError: no such split, no labels, labels of the other kind, or classes other than those that were
                trained.
        """
        model = self._ready()
        table = as_table(data)
        self._kind_of(table)
        if self.labels is None or not {*table.classes} <= {*self.labels}:
            raise InterplayError(
                f"{table.name} has the classes {shortlist(table.classes)}, this classifier knows "
                f"{shortlist(self.labels or ())}."
            )
        part = table if isinstance(split, str) and split == "all" else table.split(split)
        table = replace(part, classes=self.labels)
        encoded = encode_table(table, self.backbone, reserve=model.reserve)
        assert encoded.targets is not None
        return predict(model, self.backbone, encoded, batch_size), encoded.targets

    def evaluate(self, data: Source, split: Part = "test", *, batch_size: int = 64) -> dict[str, float]:
        """Metrics on one split (`interplay.metrics.classification.classification_metrics`); arguments as `logits`.

        Raises:
            InterplayError: as `logits`.
        """
        logits, targets = self.logits(data, split, batch_size=batch_size)
        return classification_metrics(self.probabilities(logits), targets, self._ready().kind)

    def report(self, data: Source, split: Part = "test", *, batch_size: int = 64) -> Report:
        """What `evaluate` gives, the figures of every class, and for one label a pair the confusion matrix.

        Raises:
            InterplayError: as `logits`.
        """
        logits, targets = self.logits(data, split, batch_size=batch_size)
        return report(self.labels or (), self.probabilities(logits), targets, self._ready().kind)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (N, K) as of `logits` → probabilities, calibrated where the classifier is."""
        return self._ready().probabilities(logits)

    def calibrate(self, data: Source, *, batch_size: int = 64) -> CalibrationReport:
        """Choose the temperature of the probabilities on the `validation` split; no other split is read.

        From then on `predict_proba`, `evaluate` and what is saved use it. Calibrating again starts from the bare
        logits, training again removes it.

        Args:
            data: a table, or what `interplay.data.load` takes.
            batch_size: pairs at a time.

        Raises:
            InterplayError: as `evaluate`; no temperature is the best (`fit_calibration`).
        """
        model = self._ready()
        assert self.card is not None
        logits, targets = self.logits(data, "validation", batch_size=batch_size)
        found = calibrated(model, logits, targets)
        self.card = replace(
            self.card,
            temperature=found.calibration.temperature,
            shift=found.calibration.shift,
            metrics={**self.card.metrics} | {f"calibrated_{name}": found.after[name] for name in IN_THE_CARD},
        )
        return found

    @overload
    def predict_proba(
        self,
        images: Images | Source | None = None,
        texts: Words | None = None,
        *,
        batch_size: int = 64,
        frame: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def predict_proba(
        self,
        images: Images | Source | None = None,
        texts: Words | None = None,
        *,
        batch_size: int = 64,
        frame: Literal[True],
    ) -> pandas.DataFrame: ...

    def predict_proba(
        self,
        images: Images | Source | None = None,
        texts: Words | None = None,
        *,
        batch_size: int = 64,
        frame: bool = False,
    ) -> Tensor | pandas.DataFrame:
        """Probabilities of the classes: (pairs, classes).

        Args:
            images: one picture or several: paths, bytes, PIL images, arrays, tensors or open files; or, without texts,
                a table of pairs, as `interplay.data.load` takes it, whose labels and splits are not read. Where the
                head reads the text alone it can be left out.
            texts: one or several, one a picture. Where the head reads the picture alone they can be left out.
            batch_size: pairs at a time.
            frame: answer with a DataFrame, a column a class; its index are the ids of a table, or else numbers.

        Raises:
            InterplayError: as many images as texts are needed; an image that cannot be read; an empty text; a side
                that the head reads is missing.
        """
        model = self._ready()
        pairs = pairs_of(images, texts, model.reads, self.method_name)
        table = pairs.encode(self.backbone, reserve=model.reserve)
        found = model.probabilities(predict(model, self.backbone, table, batch_size))
        if not frame:
            return found
        import pandas

        return pandas.DataFrame(found.numpy(), index=list(pairs.ids), columns=list(self.labels or ()))

    def predict(
        self,
        images: Images | Source | None = None,
        texts: Words | None = None,
        *,
        abstain_below: float | None = None,
        batch_size: int = 64,
    ) -> list[str] | list[list[str]]:
        """The most probable class of each pair; for several labels, all classes above one half.

        Args:
            images, texts, batch_size: as `predict_proba`; of a single pair the answer is a list of one.
            abstain_below: answer an empty text where even the highest probability is smaller, in (0, 1].

        Raises:
            InterplayError: as `predict_proba`; `abstain_below` with several labels, or outside (0, 1].
        """
        check_abstaining(self.kind, abstain_below)
        return self.decide(
            self.predict_proba(images, texts, batch_size=batch_size), abstain_below=abstain_below
        )

    def decide(
        self, probabilities: Tensor, *, abstain_below: float | None = None
    ) -> list[str] | list[list[str]]:
        """Probabilities (pairs, classes) → what `predict` says of them."""
        assert self.labels is not None
        return decided(self.labels, self.kind, probabilities, abstain_below)

    def _save_pretrained(self, save_directory: Path) -> None:
        model = self._ready()
        assert self.card is not None
        artifact.save(Path(save_directory), model, self.card)

    @classmethod
    def _opened(cls, folder: Path, backbone: str | Backbone | None) -> Self:
        card = artifact.read_card(folder)
        loaded = as_backbone(backbone or card.backbone)
        model, card = artifact.load(folder, loaded)
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
