"""Closed-form heads on frozen vectors, the best one by evidence: where training starts, and what it has to beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.evidence import Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.ridge import PENALTIES, Ridge, directions
from interplay.encoding.batches import BatchLoader, EncodedTable, OrderedSampler, to_device
from interplay.encoding.prefix_cache import behind_front
from interplay.errors import InterplayError
from interplay.metrics.classification import Kind
from interplay.parts.features import PairFeatures
from interplay.parts.heads import Head, HeadQuery, HeadSettings, Readout
from interplay.parts.kernel_map import KernelMap
from interplay.towers.backbone import Backbone
from interplay.towers.hidden import HiddenStates, hidden_widths
from interplay.towers.tokens import SIDES, Side
from interplay.towers.walk import Vectors

FEW = 200
"""With fewer validation pairs than this, heads are chosen by cross-validation over train and validation."""
FOLDS = 10
KINDS = ("class_text", "linear", "kernel", "bilinear")
"""The heads that are chosen among where nobody names one."""
LANDMARKS = 512
_BLOCKS: tuple[PairFeatures, ...] = ("text", "image", "concat", "pair")
_HIDDEN: tuple[PairFeatures, ...] = ("text", "image", "concat")
_QUERIES: tuple[HeadQuery, ...] = ("text", "image", "image+text")
_SHARPNESS = (0.3, 1.0)
"""Widths of the kernel: the median squared distance of two pairs over these."""
_NEAR = 0.5
"""Heads whose figure is within so many standard errors of the best one's are told apart by their loss."""
HELD = 5 * 10**7
"""Numbers: hidden states of more than these (200 MB) are not kept, and no head reads them."""
_ALIKE = ("macro_accuracy", "f1_macro")
_CLASS_TEXTS = 2.0
"""Weight of the similarities with the class texts beside the vectors themselves."""


@dataclass(frozen=True, eq=False)
class PairVectors:
    """The vectors of N pairs and their targets, on the CPU.

    Attributes:
        image, text: (N, joint).
        targets: (N,) or (N, K).
        hidden: hidden states of the sides that were asked for; None: they were not, or are too many (`HELD`).
    """

    image: Tensor
    text: Tensor
    targets: Tensor
    hidden: HiddenStates | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def vectors(self) -> Vectors:
        """What a head reads."""
        return Vectors(self.image, self.text, hidden=self.hidden)

    @property
    def widths(self) -> dict[Side, int]:
        """For each side, how many numbers of hidden states there are."""
        kept = {} if self.hidden is None else {side: self.hidden.side(side) for side in SIDES}
        return {side: states.shape[1] for side, states in kept.items() if states is not None}

    def and_(self, other: PairVectors) -> PairVectors:
        """These pairs and then others; hidden states where both have them."""
        pairs = ((self.image, other.image), (self.text, other.text), (self.targets, other.targets))
        image, text, targets = (torch.cat(both) for both in pairs)
        hidden = None
        if self.hidden is not None and other.hidden is not None:
            sides = ((self.hidden.side(side), other.hidden.side(side)) for side in SIDES)
            hidden = HiddenStates(*(None if a is None or b is None else torch.cat([a, b]) for a, b in sides))
        return PairVectors(image, text, targets, hidden)


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
    every = hidden_widths(backbone.shape)
    widths = {side: every[side] for side in model.hidden}
    kept = sum(widths.values()) * len(table) <= HELD
    states = {side: torch.zeros(len(table), width) for side, width in widths.items() if kept}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in BatchLoader(table, OrderedSampler(table.text_lengths, batch_size)):
            pairs = behind_front(model, backbone, to_device(batch.pairs, backbone.device))
            found = model.vectors(backbone, pairs)
            image[batch.rows], text[batch.rows] = found.image.float().cpu(), found.text.float().cpu()
            for side, kept_of in states.items():
                assert found.hidden is not None
                kept_of[batch.rows] = found.hidden.asked(side).float().cpu()
    model.train(was_training)
    hidden = HiddenStates(states.get("image"), states.get("text")) if states else None
    return PairVectors(image, text, table.targets, hidden)


def logits_of(head: Head, pairs: PairVectors) -> Tensor:
    """Logits of a head on the CPU of pairs whose vectors are known, (N, K)."""
    with torch.no_grad():
        logits: Tensor = head(pairs.vectors)
    return logits


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
        scale, threshold: logits are scale · (outputs − threshold); (K,) of these where each class has its own.
    """

    candidate: Candidate
    penalty: float
    logits: Tensor
    value: float
    loss: float
    merit: float
    scale: float
    threshold: float | Tensor


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

    def among(
        self,
        *features: str,
        kinds: Sequence[str] = ("linear", "kernel"),
        readouts: Sequence[Readout] = ("vectors", "hidden"),
    ) -> Answer | None:
        """The best answer that reads some features alone."""
        found = [
            answer
            for answer in self.answers
            if answer.candidate.settings.kind in kinds
            and answer.candidate.settings.readout in readouts
            and answer.candidate.settings.read in features
        ]
        return max(found, key=lambda answer: (answer.merit, -answer.loss), default=None)


class Starts:
    """Fits and chooses heads on the vectors of one task.

    Args:
        model: a prepared classifier; its head keeps the class texts where they are among the `kinds` (`auto` does).
        monitor: what to choose by.
        kinds: the kinds of head to choose among.
        readouts: what linear and kernel heads may read.
    """

    def __init__(
        self,
        model: PairClassifier,
        monitor: Monitor,
        kinds: Sequence[str] = KINDS,
        readouts: Sequence[Readout] = ("vectors", "hidden"),
    ) -> None:
        self._count = model.output_width
        self._class_vectors = model.head.class_vectors
        self._rank = model.head.settings.rank
        self._scale = model.head.scale
        self._kind: Kind = model.kind
        self._template = model.head.settings.template
        self._monitor = monitor
        self._kinds = kinds
        self._readouts = readouts

    @classmethod
    def of(cls, model: PairClassifier, monitor: Monitor) -> Starts:
        """Those that the settings of a model's head leave to choose among."""
        asked = model.head.settings
        return (
            cls(model, monitor)
            if asked.kind == "auto"
            else cls(model, monitor, (asked.kind,), (asked.readout,))
        )

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
        hidden = fitted.hidden is not None and measured.hidden is not None
        groups = [
            _undominated([*self.answers(candidate, fitted, None if crossed else validation)])
            for candidate in self._candidates(hidden=hidden)
        ]
        if not groups:
            raise InterplayError(
                f"The hidden states of {len(fitted)} pairs are too many to fit a head with: set head.readout = vectors."
            )
        best = [self._chosen(own, len(measured)) for own in groups]
        overall = self._chosen([answer for own in groups for answer in own], len(measured))
        return Choice(overall, best, measured.targets, crossed)

    def _chosen(self, answers: list[Answer], rows: int) -> Answer:
        top = max(answer.merit for answer in answers)
        near = _NEAR * self._monitor.error(top, rows)
        return min(
            (answer for answer in answers if answer.merit >= top - near),
            key=lambda answer: answer.loss,
        )

    def _candidates(self, *, hidden: bool) -> Iterator[Candidate]:
        if "class_text" in self._kinds:
            for query in _QUERIES:
                settings = HeadSettings(kind="class_text", query=query, template=self._template)
                yield Candidate(settings)
        if "vectors" in self._readouts:
            yield from self._on_vectors()
        if "hidden" in self._readouts and hidden:
            yield from self._on_hidden()

    def _on_vectors(self) -> Iterator[Candidate]:
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

    def _on_hidden(self) -> Iterator[Candidate]:
        if "linear" in self._kinds:
            for features in _HIDDEN:
                yield Candidate(HeadSettings(kind="linear", features=features, readout="hidden"))
        if "kernel" in self._kinds:
            for sharpness in _SHARPNESS:
                yield Candidate(HeadSettings(kind="kernel", readout="hidden"), sharpness)

    def answers(
        self, candidate: Candidate, fitted: PairVectors, held_out: PairVectors | None
    ) -> Iterator[Answer]:
        """A candidate with each penalty, measured on pairs that it was not fitted on."""
        measured = fitted if held_out is None else held_out
        head = self.empty(candidate, fitted)
        if not head.settings.reads_features:
            with torch.no_grad():
                outputs = head(measured.vectors).double()
            threshold = self._monitor.threshold(outputs, measured.targets)
            yield self._answer(candidate, 0.0, outputs, measured.targets, 1.0, threshold)
            return
        mix = self._mix_of(candidate, head, fitted)
        ridge = Ridge(_inputs(head, fitted, mix), self._shares(fitted.targets))
        inputs = None if held_out is None else _inputs(head, held_out, mix)
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
            if self._balances:
                level = self._levels(fitted.targets) / scale
                yield self._answer(candidate, penalty, outputs, measured.targets, scale, threshold + level)

    @property
    def _balances(self) -> bool:
        """Whether the monitored figure counts every class alike, whatever its rows."""
        return self._kind == "single" and self._monitor.name in _ALIKE

    def _levels(self, targets: Tensor) -> Tensor:
        """log of each class's share of the rows: what logit adjustment takes off (Menon et al., 2021), (K,)."""
        counts = torch.bincount(targets, minlength=self._count).double()
        return ((counts + 1) / (counts + 1).sum()).log()

    def _answer(
        self,
        candidate: Candidate,
        penalty: float,
        outputs: Tensor,
        targets: Tensor,
        scale: float,
        threshold: float | Tensor,
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
            mix = self._mix_of(candidate, head, pairs)
            weight, bias = Ridge(_inputs(head, pairs, mix), self._shares(pairs.targets)).solution(
                answer.penalty
            )
            if mix is not None:
                weight = weight @ mix.T.double()
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
        head = Head(
            settings,
            pairs.image.shape[1],
            self._count,
            self._scale,
            bias=self._kind == "multi",
            hidden=pairs.widths,
        )
        if head.hidden is not None:
            assert pairs.hidden is not None
            head.hidden.fit(pairs.hidden)
        if isinstance(head.map, KernelMap):
            head.map.fit(pairs.image, pairs.text, candidate.sharpness, head.of_hidden(pairs.vectors))
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

    def _mix_of(self, candidate: Candidate, head: Head, pairs: PairVectors) -> Tensor | None:
        """What a head's inputs are multiplied with before the regression, (inputs, columns); None: nothing."""
        if candidate.class_texts:
            return self._mix
        return None if candidate.settings.readout == "vectors" else directions(_inputs(head, pairs, None))

    def _shares(self, targets: Tensor) -> Tensor:
        """Targets as what the regression is to give: 0 and 1 for each class."""
        if self._kind == "multi":
            return targets.double()
        return F.one_hot(targets, self._count).double()


def _undominated(answers: list[Answer]) -> list[Answer]:
    """Those that no other one beats in figure or loss without being worse in the other; all others are let go."""

    def beaten(one: Answer) -> bool:
        return any(
            other.merit >= one.merit
            and other.loss <= one.loss
            and (other.merit, other.loss) != (one.merit, one.loss)
            for other in answers
        )

    return [one for one in answers if not beaten(one)]


def _inputs(head: Head, pairs: PairVectors, mix: Tensor | None) -> Tensor:
    with torch.no_grad():
        inputs = head.inputs(pairs.vectors)
    return inputs.double() if mix is None else (inputs.to(mix.dtype) @ mix).double()


def folds_of(targets: Tensor) -> list[Tensor]:
    """`FOLDS` folds of row numbers, each with about the same share of every class (of several, the first one)."""
    first = targets.argmax(dim=1) if targets.dim() == 2 else targets
    order = first.argsort(stable=True)
    return [order[at::FOLDS] for at in range(min(FOLDS, len(order)))]
