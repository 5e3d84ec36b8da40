"""What the page's buttons do: they ask the core, and write what it answers as HTML."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from interplay.errors import InterplayError
from interplay.retrieval.run_folder import MATRIX
from interplay.service.core import Service
from interplay.service.faults import Refused
from interplay.service.page import markup
from interplay.service.requests import Item, ModelState, Pair, Search
from interplay.service.tokens import Holder
from interplay.towers.tokens import Side

if TYPE_CHECKING:
    from interplay.gallery.gallery import Hit
    from interplay.retrieval.score_matrix import ScoreMatrix

SIDES: dict[str, Side] = {"Pictures": "image", "Texts": "text"}
"""What a search looks for, in the page's words."""
_PLACES = re.compile(r"\b(?:pairs|query)\[0\](?:\.(image|text))?")
_WORDS = {"image": "The picture", "text": "The text", None: "The question"}
_SECONDS = 0.5


class Handlers:
    """The page's answers, each for the holder of a token who sees its own models alone.

    Args:
        service: the core, on whose event loop all of them run.
        counted: told the model and the items of every answer.
    """

    def __init__(self, service: Service, counted: Callable[[str, int], None]) -> None:
        self._service, self._counted = service, counted

    def classifiers(self, holder: Holder) -> list[str]:
        """Names of the classifiers."""
        return [state.name for state in self._states(holder) if state.task != "retrieval"]

    def galleries(self, holder: Holder) -> list[str]:
        """Names of the retrievers that have a gallery."""
        return [state.name for state in self._states(holder) if state.entries is not None]

    def retrievers(self, holder: Holder) -> list[str]:
        """Names of all retrievers."""
        return [state.name for state in self._states(holder) if state.task == "retrieval"]

    def models(self, holder: Holder) -> list[str]:
        """Names of all models."""
        return [state.name for state in self._states(holder)]

    async def classify(self, holder: Holder, model: str, picture: str, text: str, least: float) -> str:
        """A pair → bars of probabilities.

        Args:
            picture: a data URI, or empty.
            text: or empty.
            least: percent of certainty below which the model abstains; 0: never.
        """

        async def answer() -> str:
            _check(holder, model, "a classifier")
            pair = Pair(picture or None, text or None)
            abstaining = least / 100 if least else None
            (found,) = await self._service.classify(model, [pair], abstain_below=abstaining)
            self._counted(model, 1)
            return markup.prediction(found, self._service.state(model).reads)

        return await _said(answer())

    async def search(
        self, holder: Holder, model: str, text: str, picture: str, find: str, hits: float, where: str
    ) -> str:
        """A text, a picture or both → hits with their scores.

        Args:
            find: a key of `SIDES`.
            hits: how many at most.
            where: a filter over metadata, or empty.
        """

        async def answer() -> str:
            _check(holder, model, "a retriever with a gallery")
            query = Item(picture or None, text or None)
            found = await self._service.search(
                model, Search(query, int(hits), SIDES[find], where.strip() or None)
            )
            self._counted(model, 1)
            thumbnails = await asyncio.gather(*(self._thumbnail(model, hit) for hit in found.hits))
            return markup.hits(found, thumbnails)

        return await _said(answer())

    async def gallery(self, holder: Holder, model: str) -> str:
        """A retriever's entries, its sessions, and how well each is recalled."""

        async def answer() -> str:
            _check(holder, model, "a retriever")
            state = self._service.state(model)
            matrix = await asyncio.to_thread(self._matrix, model)
            return markup.gallery(state, matrix)

        return await _said(answer())

    async def refresh(self, holder: Holder, model: str) -> AsyncIterator[str]:
        """Bring a gallery up to date; says every half second for how long it has been at it."""
        begun = time.monotonic()

        async def answer() -> str:
            _check(holder, model, "a retriever with a gallery")
            holder.check_manages()
            return markup.refreshed(await self._service.refresh(model))

        working = asyncio.create_task(_said(answer()))
        while not working.done():
            yield markup.working(
                f"Refreshing for {time.monotonic() - begun:.0f} s; searches see the gallery of before."
            )
            await asyncio.wait({working}, timeout=_SECONDS)
        yield working.result()

    def table(self, holder: Holder) -> str:
        """All models."""
        return markup.models(self._states(holder))

    async def load(self, holder: Holder, model: str) -> str:
        """Load a model, or read it again."""

        async def answer() -> str:
            _check(holder, model, "a model")
            holder.check_manages()
            await self._service.load(model)
            return markup.done(f"{model} is loaded.")

        return await _said(answer())

    async def unload(self, holder: Holder, model: str) -> str:
        """Let a model go."""

        async def answer() -> str:
            _check(holder, model, "a model")
            holder.check_manages()
            there = await self._service.unload(model)
            return markup.done(f"{model} is unloaded." if there else f"{model} was not loaded.")

        return await _said(answer())

    def _states(self, holder: Holder) -> list[ModelState]:
        return [state for state in self._service.states() if holder.may(state.name)]

    def _matrix(self, model: str) -> ScoreMatrix | None:
        """What a stream of sessions has measured, where the run has it."""
        from interplay.retrieval.score_matrix import ScoreMatrix

        path = self._service.models.run(model).folder / MATRIX
        return ScoreMatrix.load(path) if path.is_file() else None

    async def _thumbnail(self, model: str, hit: Hit) -> bytes | None:
        """A small JPEG of a hit; None of a text, or where the file is gone or another one."""
        if hit.side != "image" or hit.missing or hit.changed:
            return None
        try:
            return await self._service.thumbnail(model, hit.key)
        except Refused:  # gone since the search
            return None


def _check(holder: Holder, model: str, what: str) -> None:
    """Refuse a model that was not chosen, or that the holder may not ask.

    Raises:
        Refused: so it is.
    """
    if not model:
        raise Refused(f"Choose {what} first.")
    holder.check(model)


async def _said(answer: Awaitable[str]) -> str:
    """An answer, or in its place what was wrong, in the page's words."""
    try:
        return await answer
    except InterplayError as problem:
        return markup.fault(_PLACES.sub(lambda place: _WORDS[place[1]], str(problem)))
