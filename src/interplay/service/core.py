"""The service itself: models that are asked together, whatever protocol or page is around them."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.classifier import Classifier
from interplay.classification.deciding import check_abstaining
from interplay.data.picture_sources import encodable
from interplay.errors import InterplayError
from interplay.service.batching import Batcher
from interplay.service.compute import ClassifyJob, EmbedJob, Job, compute, reads
from interplay.service.faults import Conflict, NoSuch, Refused, TooLarge, Unusable
from interplay.service.fetching import Fetcher
from interplay.service.galleries import Galleries
from interplay.service.models import Loaded, Models
from interplay.service.pictures import Pictures, Pixels, is_key
from interplay.service.requests import (
    Embedded,
    Found,
    Growth,
    Item,
    ModelState,
    Pair,
    Prediction,
    Search,
)
from interplay.service.settings import ServiceSettings
from interplay.towers.tokens import Side

if TYPE_CHECKING:
    from interplay.gallery.refresh import RefreshReport
    from interplay.retrieval.retriever import Retriever
    from interplay.towers.backbone import Backbone

T = TypeVar("T")


class Service:
    """Answers for all models of a folder; its coroutines belong to one event loop.

    Args:
        models: to be asked.
        settings: the limits.
        galleries: of the retrievers.
    """

    def __init__(self, models: Models, settings: ServiceSettings, galleries: Galleries) -> None:
        self.models, self.settings, self.galleries = models, settings, galleries
        # One thread computes batches, so that torch's own threads are not divided; another loads and refreshes.
        self._computing = ThreadPoolExecutor(1, "compute")
        self._changing = ThreadPoolExecutor(1, "change")
        self._reading = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "read")
        self._pictures = Pictures(settings, Fetcher(settings))
        self.batcher: Batcher[Job, Tensor] = Batcher(
            compute, self._computing, most=settings.batch, room=settings.most_waiting
        )
        self._watch: asyncio.Task[None] | None = None

    async def start(self, preload: Sequence[str] | None = ()) -> None:
        """Load what is to be there from the beginning, and open the galleries.

        Args:
            preload: names of models that stay loaded; None: all are loaded, and may be unloaded.

        Raises:
            InterplayError: one cannot be loaded or opened, as where another process holds it.
        """
        for name in self.models.names if preload is None else preload:
            await self._change(self.models.load, name, pinned=preload is not None)
        await self._change(self.galleries.open, self.models)
        if self.settings.idle:
            self._watch = asyncio.create_task(self._unload_idle())

    async def close(self) -> None:
        """End what was begun, and let go of everything."""
        if self._watch is not None:
            self._watch.cancel()
        await self.batcher.close()
        await self._change(self.galleries.close)
        for pool in (self._computing, self._changing, self._reading):
            pool.shutdown()

    async def classify(
        self, name: str, pairs: Sequence[Pair], *, abstain_below: float | None = None
    ) -> list[Prediction]:
        """What a classifier says of pairs.

        Raises:
            Refused: no such model, an item that cannot be used, too many, or no room.
        """
        self._check_count(pairs, "pairs")
        classifier = await self._classifier(name)
        try:
            check_abstaining(classifier.kind, abstain_below)
        except InterplayError as problem:
            raise Unusable(str(problem), "abstain_below") from None
        self.batcher.check_room(len(pairs))
        jobs: list[Job] = []
        pixels = await self._pixels(classifier.backbone, [pair.image for pair in pairs], "pairs")
        for at, (pair, image) in enumerate(zip(pairs, pixels, strict=True)):
            for side, given in (("image", image), ("text", pair.text)):
                if given is None and side in reads(classifier):
                    raise Unusable(f"pairs[{at}] has no {side}, which '{name}' reads.", f"pairs[{at}].{side}")
            if pair.text is not None:
                self._check_text(pair.text, f"pairs[{at}].text")
            jobs.append(ClassifyJob(classifier, image, pair.text))
        answers = await self.batcher.submit(jobs)
        return [_prediction(classifier, answer, abstain_below) for answer in answers]

    async def embed(self, name: str, items: Sequence[Item], *, where: str = "input") -> list[Embedded]:
        """Vectors of pictures and texts; of an item with both the normalised mean of the two.

        Args:
            where: what the items are called in the request.

        Raises:
            Refused: as `classify`.
        """
        self._check_count(items, where)
        return await self._embedded(await self._retriever(name), items, where)

    async def _embedded(self, retriever: Retriever, items: Sequence[Item], where: str) -> list[Embedded]:
        self.batcher.check_room(sum((item.image is not None) + (item.text is not None) for item in items))
        if retriever.method.traits.coupled:
            raise Conflict(
                "This model encodes image and text together: it has no vectors of one alone.", "model"
            )
        pixels = await self._pixels(retriever.backbone, [item.image for item in items], where)
        jobs: list[Job] = []
        for at, (item, image) in enumerate(zip(items, pixels, strict=True)):
            if image is None and item.text is None:
                raise Unusable(f"{where}[{at}] has neither an image nor a text.", f"{where}[{at}]")
            if image is not None:
                jobs.append(EmbedJob(retriever, "image", image))
            if item.text is not None:
                self._check_text(item.text, f"{where}[{at}].text")
                jobs.append(EmbedJob(retriever, "text", item.text))
        answers = iter(await self.batcher.submit(jobs))
        found = []
        for item in items:
            own = [next(answers) for part in (item.image, item.text) if part is not None]
            vector = own[0] if len(own) == 1 else F.normalize(own[0] + own[1], dim=-1)
            found.append(Embedded(vector, len((item.text or "").split())))
        return found

    async def search(self, name: str, asked: Search) -> Found:
        """Hits of a retriever's gallery, best first; none where nothing is near enough.

        Raises:
            Refused: as `classify`; the retriever has no gallery, or the filter cannot be used.
        """
        if not 1 <= asked.k <= self.settings.most_hits:
            raise Unusable(f"k is a number from 1 to {self.settings.most_hits}.", "k")
        self.models.run(name)
        served = self.galleries.of(name)
        while True:
            view = await self._read(served.view)
            (embedded,) = await self._embedded(view.retriever, [asked.query], "query")
            found = await self._read(served.search, view, [(asked, embedded.vector)])
            if found is not None:  # else it was refreshed meanwhile
                return found[0]

    async def grow(self, name: str, items: Sequence[Item], growth: Sequence[Growth]) -> dict[str, int]:
        """Add to a retriever's gallery.

        Args:
            items: as they came, a text or a picture each.
            growth: their ids and metadata; the contents are put in here.

        Returns:
            How many were added, present before, updated and replaced.

        Raises:
            Refused: as `classify`; the retriever has no gallery.
        """
        self._check_count(items, "entries")
        self.models.run(name)
        served, square = self.galleries.of(name), self.galleries.of(name).retriever.backbone.square
        ready = []
        for at, (item, one) in enumerate(zip(items, growth, strict=True)):
            where = f"entries[{at}]"
            if (item.image is None) == (item.text is None):
                raise Unusable(f"{where} needs either an image or a text.", where)
            if item.text is not None:
                self._check_text(item.text, f"{where}.text")
            content: str | bytes = item.text or ""
            if item.image is not None:
                content = await self._read(self._pictures.bytes_of, item.image, f"{where}.image")
                await self._read(self._pictures.pixels, content, f"{where}.image", square)
            ready.append(replace(one, content=content))
        try:
            return await self._change(served.grow, ready)
        except Refused:
            raise
        except InterplayError as problem:  # of metadata and ids, which the gallery knows best
            raise Unusable(str(problem), "entries") from None

    async def refresh(self, name: str) -> RefreshReport:
        """Read a retriever again that has learned or forgotten in its folder, and bring its gallery up to date.

        Searches go on: they see the former gallery, and then the new one.

        Raises:
            Refused: there is no such gallery, or it is being changed already.
        """
        self.models.run(name)
        served = self.galleries.of(name)
        there = await self._change(self.models.load, name)
        if isinstance(there.model, Classifier):
            raise Conflict(f"'{name}' is a classifier.", "model")
        return await self._change(served.refresh, there.model)

    async def thumbnail(self, name: str, key: str) -> bytes:
        """A small JPEG of an entry's picture.

        Raises:
            NoSuch: there is no such picture.
        """
        self.models.run(name)
        content = await self._read(self.galleries.of(name).gallery.picture, key) if is_key(key) else None
        if content is None:
            raise NoSuch("There is no picture of that key, or its file holds another one now.", "key")
        return await self._read(self._pictures.thumbnail, content)

    def states(self) -> list[ModelState]:
        """All models, loaded or not."""
        return [self.state(name) for name in self.models.names]

    def state(self, name: str) -> ModelState:
        """One model.

        Raises:
            NoSuch: there is none of that name.
        """
        run, there = self.models.run(name), self.models.loaded(name)
        header = run.header
        return ModelState(
            name=name,
            task=run.task,
            method=str(header.get("method")),
            backbone=str(header.get("backbone")),
            loaded=there is not None,
            labels=tuple(header.get("labels", ())),
            kind=str(header.get("kind", "")),
            reads=_reads(there),
            sessions=_sessions(there, header),
            metrics=dict(header.get("metrics", {})),
            entries=self.galleries.entries(name),
            waiting=self.batcher.waiting,
        )

    async def load(self, name: str) -> ModelState:
        """Load a model, or read it again where its folder has changed.

        Raises:
            Refused: there is none; InterplayError: it cannot be read.
        """
        await self._change(self.models.rescan)
        await self._change(self.models.load, name)
        return self.state(name)

    async def unload(self, name: str) -> bool:
        """Let a model go; whether it was loaded.

        Raises:
            Refused: there is none, or its gallery is served.
        """
        self.models.run(name)
        if self.galleries.entries(name) is not None:
            raise Conflict(f"'{name}' answers for its gallery: it stays loaded.", "model")
        return await self._change(self.models.unload, name)

    async def probe(self) -> None:
        """Encode one pair with every loaded backbone, all the way that a request takes.

        Raises:
            InterplayError: it cannot be done.
        """
        loaded = self.models.in_memory() or [await self._loaded(self.models.names[0])]
        await self.batcher.submit(list({one.model.backbone.digest: _probe(one) for one in loaded}.values()))

    async def _classifier(self, name: str) -> Classifier:
        model = (await self._loaded(name)).model
        if not isinstance(model, Classifier):
            raise Conflict(f"'{name}' is a retriever: ask /v1/embeddings or /v1/search.", "model")
        return model

    async def _retriever(self, name: str) -> Retriever:
        model = (await self._loaded(name)).model
        if isinstance(model, Classifier):
            raise Conflict(f"'{name}' is a classifier: ask /v1/classify.", "model")
        return model

    async def _loaded(self, name: str) -> Loaded:
        there = self.models.touch(name)
        return there if there is not None else await self._change(self.models.load, name)

    async def _pixels(
        self, backbone: Backbone, sources: Sequence[str | bytes | None], where: str
    ) -> list[Pixels | None]:
        async def read(at: int, source: str | bytes | None) -> Pixels | None:
            if source is None:
                return None
            return await self._read(self._pictures.pixels, source, f"{where}[{at}].image", backbone.square)

        return list(await asyncio.gather(*(read(at, source) for at, source in enumerate(sources))))

    def _check_count(self, items: Sequence[Any], where: str) -> None:
        if not items:
            raise Unusable(f"{where} is empty.", where)
        if len(items) > self.settings.most_items:
            raise TooLarge(f"{where} holds {len(items)} items, more than {self.settings.most_items}.", where)

    def _check_text(self, text: str, where: str) -> None:
        if len(text) > self.settings.most_text:
            raise TooLarge(f"{where} has more than {self.settings.most_text:,} characters.", where)
        if not text.strip():
            raise Unusable(f"{where} is an empty text.", where)
        if not encodable(text):
            raise Unusable(f"{where} holds half of a character (a lone surrogate).", where)

    async def _unload_idle(self) -> None:
        while True:
            await asyncio.sleep(max(self.settings.idle / 4, 0.05))
            await self._change(self.models.unload_idle, self.settings.idle)

    async def _change(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        call = functools.partial(function, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._changing, call)

    async def _read(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, function, *arguments)


def _prediction(classifier: Classifier, probabilities: Tensor, abstain_below: float | None) -> Prediction:
    (decided,) = classifier.decide(probabilities[None], abstain_below=abstain_below)
    labels = ((decided,) if decided else ()) if isinstance(decided, str) else tuple(decided)
    by_name = dict(zip(classifier.labels or (), probabilities.tolist(), strict=True))
    return Prediction(labels, by_name, abstained=classifier.kind == "single" and not labels)


def _reads(there: Loaded | None) -> tuple[Side, ...]:
    if there is None or not isinstance(there.model, Classifier):
        return ()
    return reads(there.model)


def _probe(there: Loaded) -> Job:
    """A pair, or for a retriever a text, that takes the way of all others."""
    size = there.model.backbone.image_size
    if isinstance(there.model, Classifier):
        return ClassifyJob(there.model, np.zeros((3, size, size), dtype=np.uint8), "a probe")
    return EmbedJob(there.model, "text", "a probe")


def _sessions(there: Loaded | None, header: dict[str, Any]) -> tuple[str, ...]:
    if there is not None and not isinstance(there.model, Classifier):
        return there.model.sessions
    return tuple(header.get("sessions", ()))
