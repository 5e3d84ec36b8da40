"""What one batch computes: pairs of many classifiers and items of many retrievers, those of one backbone together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from interplay.classification.adapter_bank import AdapterBank
from interplay.classification.classifier import Classifier
from interplay.service.pictures import Pixels
from interplay.towers.tokens import Side

if TYPE_CHECKING:
    from interplay.retrieval.retriever import Retriever

UNREAD = "picture"
"""What stands in the place of a text that nothing reads."""


@dataclass(frozen=True)
class ClassifyJob:
    """A pair to be classified; a side that the classifier does not read may be None.

    Attributes:
        classifier: asked.
        image: pixels as its backbone reads them.
        text: beside it.
    """

    classifier: Classifier
    image: Pixels | None
    text: str | None


@dataclass(frozen=True)
class EmbedJob:
    """A picture or a text to be encoded.

    Attributes:
        retriever: asked.
        side: of the item.
        content: pixels as its backbone reads them, or a text.
    """

    retriever: Retriever
    side: Side
    content: Pixels | str


Job: TypeAlias = ClassifyJob | EmbedJob


def compute(jobs: Sequence[Job]) -> list[Tensor]:
    """Probabilities (classes,) of each pair and vectors (joint,) of each item, in the order of the jobs.

    Raises:
        InterplayError: one of them cannot be computed.
    """
    answers: list[Tensor] = [torch.empty(0)] * len(jobs)
    groups: dict[tuple[str, str], list[int]] = {}
    for at, job in enumerate(jobs):
        kind = "classify" if isinstance(job, ClassifyJob) else job.side
        model = job.classifier if isinstance(job, ClassifyJob) else job.retriever
        groups.setdefault((kind, model.backbone.digest), []).append(at)
    for rows in groups.values():
        pairs = [job for job in (jobs[at] for at in rows) if isinstance(job, ClassifyJob)]
        items = [job for job in (jobs[at] for at in rows) if isinstance(job, EmbedJob)]
        for at, answer in zip(rows, _classified(pairs) if pairs else _embedded(items), strict=True):
            answers[at] = answer
    return answers


def _classified(jobs: Sequence[ClassifyJob]) -> Sequence[Tensor]:
    """Pairs for classifiers of one backbone."""
    backbone = jobs[0].classifier.backbone
    bank = AdapterBank(backbone)
    names = {id(job.classifier): job.classifier for job in jobs}
    for name, classifier in names.items():
        bank.attach(str(name), classifier)
    blank = np.zeros((3, backbone.image_size, backbone.image_size), dtype=np.uint8)
    pixels = np.stack([blank if job.image is None else job.image for job in jobs])
    texts = [UNREAD if job.text is None else job.text for job in jobs]
    return bank.predict_pixels(pixels, texts, [str(id(job.classifier)) for job in jobs])


def _embedded(jobs: Sequence[EmbedJob]) -> Sequence[Tensor]:
    """Items of one side for retrievers of one backbone."""
    from interplay.retrieval.mixed import encode_mixed

    contents = [job.content for job in jobs]
    return list(encode_mixed(jobs[0].side, contents, [job.retriever for job in jobs]))


def reads(classifier: Classifier) -> tuple[Side, ...]:
    """The sides of a pair that a trained classifier cannot do without."""
    assert classifier.model is not None
    return classifier.model.reads
