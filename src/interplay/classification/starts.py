"""Closed-form heads on frozen vectors, the best one by evidence: where training starts, and what it has to beat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.evidence import Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.ridge import PENALTIES, Ridge
from interplay.encoding.batches import BatchLoader, EncodedTable, OrderedSampler, to_device
from interplay.encoding.prefix_cache import behind_front
from interplay.errors import InterplayError
from interplay.metrics.classification import Kind
from interplay.parts.features import PairFeatures
from interplay.parts.heads import Head, HeadQuery, HeadSettings
from interplay.parts.kernel_map import KernelMap
from interplay.towers.backbone import Backbone
from interplay.towers.walk import Vectors

FEW = 200
"""With fewer validation pairs than this, heads are chosen by cross-validation over train and validation."""
FOLDS = 10
LANDMARKS = 512
_BLOCKS: tuple[PairFeatures, ...] = ("text", "image", "concat", "pair")
_QUERIES: tuple[HeadQuery, ...] = ("text", "image", "image+text")
_SHARPNESS = (0.3, 1.0)
"""Widths of the kernel: the median squared distance of two pairs over these."""
_NEAR = 0.5
"""Heads whose figure is within so many standard errors of the best one's are told apart by their loss."""
_CLASS_TEXTS = 2.0
"""Weight of the similarities with the class texts beside the vectors themselves."""


@dataclass(frozen=True, eq=False)
class PairVectors:
    """The vectors of N pairs and their targets, on the CPU.

    Attributes:
        image, text: (N, joint).
        targets: (N,) or (N, K).
    """

    image: Tensor
    text: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def and_(self, other: PairVectors) -> PairVectors:
        """These pairs and then others."""
        pairs = ((self.image, other.image), (self.text, other.text), (self.targets, other.targets))
        return PairVectors(*(torch.cat(both) for both in pairs))


def vectors_of(
    model: PairClassifier, backbone: Backbone, table: EncodedTable, batch_size: int = 64
) -> PairVectors:
    """What the towers make of all pairs, with the method at work as it is, in the order of the table.

    Raises:
        InterplayError: there are no labelled pairs.
    """
    if not len(table) or table.targets is None:
        raise InterplayError(f"{table.name} has no labelled pairs to fit a head with.")
    joint = backbone.shape.joint
    image, text = torch.zeros(len(table), joint), torch.zeros(len(table), joint)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in BatchLoader(table, OrderedSampler(table.text_lengths, batch_size)):
            pairs = behind_front(model, backbone, to_device(batch.pairs, backbone.device))
            found = model.vectors(backbone, pairs)
            image[batch.rows], text[batch.rows] = found.image.float().cpu(), found.text.float().cpu()
    model.train(was_training)
    return PairVectors(image, text, table.targets)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A head that can be fitted in closed form.

    Attributes:
        settings: of the head.
        sharpness: of a kernel.
        class_texts: whether similarities with the class texts stand beside the vectors; they are linear in them, so the
            head is a linear one all the same.
    """

    settings: HeadSettings
    sharpness: float = 1.0
    class_texts: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """A candidate with its penalty and what it is worth.

    Attributes:
        candidate, penalty: what was fitted; the penalty of a head that fits no weights is 0.
        logits: (rows, K), of pairs that it was not fitted on.
        value, loss: monitored figure and loss of these logits.
        merit: the figure so that more is better.
        scale, threshold: logits are scale · (outputs − threshold).
    """

    candidate: Candidate
    penalty: float
    logits: Tensor
    value: float
    loss: float
    merit: float
    scale: float
    threshold: float


@dataclass(frozen=True, eq=False)
class Choice:
    """What was found.

    Attributes:
        best: the answer that was chosen.
        answers: the best one of every candidate.
        targets: of the pairs that all were measured on.
        crossed: whether these pairs are those of train and validation, each measured by a fit on other folds.
    """

    best: Answer
    answers: list[Answer]
    targets: Tensor
    crossed: bool

    def among(self, *features: str, kinds: Sequence[str] = ("linear", "kernel")) -> Answer | None:
        """The best answer that reads some features alone."""
        found = [
            answer
            for answer in self.answers
            if answer.candidate.settings.kind in kinds and answer.candidate.settings.read in features
        ]
        return max(found, key=lambda answer: (answer.merit, -answer.loss), default=None)


class Starts:
    """Fits and chooses heads on the vectors of one task.

    Args:
        model: a prepared classifier; its head keeps the class texts where they are among the `kinds` (`auto` does).
        monitor: what to choose by.
        kinds: the kinds of head to choose among.
    """

    def __init__(
        self,
        model: PairClassifier,
        monitor: Monitor,
        kinds: Sequence[str] = ("class_text", "linear", "kernel"),
    ) -> None:
        self._count = model.output_width
        self._class_vectors = model.head.class_vectors
        self._rank = model.head.settings.rank
        self._scale = model.head.scale
        self._kind: Kind = model.kind
        self._template = model.head.settings.template
        self._monitor = monitor
        self._kinds = kinds

    def choose(self, train: PairVectors, validation: PairVectors) -> Choice:
        """The head to start from, by evidence.

        With at least `FEW` validation pairs: every candidate is fitted on `train` and measured on `validation`. With
        fewer: it is cross-validated over both, in 10 folds with about the same classes (exact, in closed form). Of the
        candidates whose monitored figure is within half a standard error of the best one's, that with the smallest
        loss is chosen.
        """
        crossed = len(validation) < FEW
        fitted = train.and_(validation) if crossed else train
        measured = fitted if crossed else validation
        answers = [
            answer
            for candidate in self._candidates()
            for answer in self.answers(candidate, fitted, None if crossed else validation)
        ]
        groups: dict[Candidate, list[Answer]] = {}
        for answer in answers:
            groups.setdefault(answer.candidate, []).append(answer)
        best = [self._chosen(own, len(measured)) for own in groups.values()]
        return Choice(self._chosen(answers, len(measured)), best, measured.targets, crossed)

    def _chosen(self, answers: list[Answer], rows: int) -> Answer:
        top = max(answer.merit for answer in answers)
        near = _NEAR * self._monitor.error(top, rows)
        return min(
            (answer for answer in answers if answer.merit >= top - near),
            key=lambda answer: answer.loss,
        )

    def _candidates(self) -> Iterator[Candidate]:
        if "class_text" in self._kinds:
            for query in _QUERIES:
                settings = HeadSettings(kind="class_text", query=query, template=self._template)
                yield Candidate(settings)
        if "linear" in self._kinds:
            for features in _BLOCKS:
                yield Candidate(HeadSettings(kind="linear", features=features))
            yield Candidate(HeadSettings(kind="linear", features="concat"), class_texts=True)
        if "kernel" in self._kinds:
            for features in _BLOCKS:
                for sharpness in _SHARPNESS:
                    yield Candidate(HeadSettings(kind="kernel", features=features), sharpness)
        if "bilinear" in self._kinds:
            yield Candidate(HeadSettings(kind="bilinear", rank=self._rank))

    def answers(
        self, candidate: Candidate, fitted: PairVectors, held_out: PairVectors | None
    ) -> Iterator[Answer]:
        """A candidate with each penalty, measured on pairs that it was not fitted on."""
        measured = fitted if held_out is None else held_out
        head = self.empty(candidate, fitted)
        if not head.settings.reads_features:
            with torch.no_grad():
                outputs = head(Vectors(measured.image, measured.text)).double()
            threshold = self._monitor.threshold(outputs, measured.targets)
            yield self._answer(candidate, 0.0, outputs, measured.targets, 1.0, threshold)
            return
        ridge = Ridge(self._inputs(candidate, head, fitted), self._shares(fitted.targets))
        inputs = None if held_out is None else self._inputs(candidate, head, held_out)
        folds = folds_of(fitted.targets)
        for penalty in PENALTIES:
            if inputs is None:
                outputs = ridge.left_out(penalty, folds)
            else:
                weight, bias = ridge.solution(penalty)
                outputs = inputs @ weight.T + bias
            threshold = self._monitor.threshold(outputs, measured.targets)
            scale = self._monitor.scale(outputs - threshold, measured.targets)
            yield self._answer(candidate, penalty, outputs, measured.targets, scale, threshold)

    def _answer(
        self,
        candidate: Candidate,
        penalty: float,
        outputs: Tensor,
        targets: Tensor,
        scale: float,
        threshold: float,
    ) -> Answer:
        logits = (scale * (outputs - threshold)).float()
        value, loss = self._monitor.value(logits, targets), self._monitor.loss(logits, targets)
        return Answer(candidate, penalty, logits, value, loss, self._monitor.merit(value), scale, threshold)

    def fit(self, answer: Answer, pairs: PairVectors) -> Head:
        """The head of an answer, fitted on some pairs."""
        candidate = answer.candidate
        head = self.empty(candidate, pairs)
        with torch.no_grad():
            if not head.settings.reads_features:
                if head.bias is not None:
                    head.bias.fill_(-answer.threshold)
                return head
            ridge = Ridge(self._inputs(candidate, head, pairs), self._shares(pairs.targets))
            weight, bias = ridge.solution(answer.penalty)
            if candidate.class_texts:
                weight = weight @ self._mix.T
            assert head.weight is not None
            assert head.bias is not None
            head.weight.copy_(answer.scale * weight)
            head.bias.copy_(answer.scale * (bias - answer.threshold))
        return head

    def empty(self, candidate: Candidate, pairs: PairVectors) -> Head:
        """A candidate's head without weights; a kernel's landmarks are drawn from the pairs, all where they are few."""
        settings = candidate.settings
        if settings.kind == "kernel":
            settings = replace(settings, landmarks=min(LANDMARKS, len(pairs)))
        head = Head(settings, pairs.image.shape[1], self._count, self._scale, bias=self._kind == "multi")
        if isinstance(head.map, KernelMap):
            fill(head.map, pairs, candidate.sharpness)
        elif head.map is not None:
            head.map.fit(pairs.image, pairs.text)
        if settings.kind == "class_text":
            head.class_vectors = self._classes
        return head

    @property
    def _classes(self) -> Tensor:
        """The class texts' vectors, (K, joint)."""
        assert self._class_vectors is not None
        return F.normalize(self._class_vectors.float().cpu(), dim=-1)

    @property
    def _mix(self) -> Tensor:
        """(2·joint, 2·joint + 2·K): vectors, and beside them their similarities with the class texts."""
        joint = self._classes.shape[1]
        classes = _CLASS_TEXTS * self._classes.T.double().contiguous()
        texts = torch.kron(torch.eye(2, dtype=torch.double), classes)
        return torch.cat([torch.eye(2 * joint, dtype=torch.double), texts], dim=1)

    def _inputs(self, candidate: Candidate, head: Head, pairs: PairVectors) -> Tensor:
        with torch.no_grad():
            inputs = head.inputs(pairs.image, pairs.text).double()
        return inputs @ self._mix if candidate.class_texts else inputs

    def _shares(self, targets: Tensor) -> Tensor:
        """Targets as what the regression is to give: 0 and 1 for each class."""
        if self._kind == "multi":
            return targets.double()
        return F.one_hot(targets, self._count).double()


def folds_of(targets: Tensor) -> list[Tensor]:
    """`FOLDS` folds of row numbers, each with about the same share of every class (of several, the first one)."""
    first = targets.argmax(dim=1) if targets.dim() == 2 else targets
    order = first.argsort(stable=True)
    return [order[at::FOLDS] for at in range(min(FOLDS, len(order)))]


def fill(kernel: KernelMap, pairs: PairVectors, sharpness: float) -> None:
    """Give a kernel its centre, landmarks, width and projection.

    The centre is the mean of the normalised vectors, the landmarks are pairs drawn with a fixed seed, the width is the
    median squared distance of two landmarks over `sharpness`. Directions of K(s, s) with less than 10⁻⁶ of its largest
    eigenvalue are left out of the projection.
    """
    count = len(kernel.landmarks)
    rows = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:count].sort().values
    sides = pairs.image, pairs.text
    with torch.no_grad():
        kernel.centre.copy_(torch.stack([F.normalize(side, dim=-1).mean(0) for side in sides]))
        landmarks = kernel.moved(pairs.image[rows], pairs.text[rows])
        kernel.landmarks.copy_(landmarks)
        apart = torch.pdist(landmarks) ** 2
        middle = float(apart.median()) if len(apart) else 1.0
        kernel.width.fill_(max(middle, 1e-6) / sharpness)
        values, vectors = torch.linalg.eigh(kernel.near(landmarks).double())
        kept = torch.where(values > 1e-6 * values.max(), values.clamp(min=1e-12) ** -0.5, 0.0)
        kernel.projection.copy_(vectors * kept @ vectors.T)
        assert math.isfinite(float(kernel.projection.sum()))
