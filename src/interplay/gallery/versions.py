"""The versions of a gallery: a collection each, and an alias, the gallery's name, for the one that readers see.

A search goes to the alias, and Milvus takes the whole search to the collection that the alias stands for at that
moment. So a refresh that writes the next version beside the current one and then switches the alias shows its readers
what was before or what is now, never a mixture.

A gallery that is older than versions is a collection of that name; its first refresh renames it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from interplay.errors import InterplayError, unknown
from interplay.gallery.connection import Connection
from interplay.gallery.entry import LONGEST, GalleryCard
from interplay.gallery.names import gallery_of, number_of, versions_among

ABOUT = "interplay"
"""The collection property that holds the card."""


class Versions:
    """The collections of one gallery.

    Args:
        connection: to where they are.
        name: of the gallery.
        card: what it is made with.

    Attributes:
        refreshing: held while a refresh of this process is under way.
    """

    def __init__(self, connection: Connection, name: str, card: GalleryCard) -> None:
        self.name = name
        self.card = card
        self.refreshing = threading.Lock()
        self._connection = connection
        self._client = connection.client

    def prepare(self, create: bool) -> None:
        """See that there is a version that fits, loaded; make the first one where there is none.

        Raises:
            InterplayError: there is none and none is to be made, or what there is does not fit.
        """
        ask, wait = self._connection.ask, self._connection.wait
        if not ask("be opened", lambda: self._client.has_collection(self.name, **wait)):
            kept = self.all()  # what a kill before the alias was made leaves; the oldest is whole
            if not kept and not create:
                raise unknown(f"collection in the gallery {self._connection.place}", self.name, self._names())
            first = kept[0] if kept else self._create(1, {})
            ask("be opened", lambda: self._client.create_alias(first, self.name, **wait))
        about = self._connection.describe(self.name).get("properties", {}).get(ABOUT)
        check(about, self.card, f"{self._connection.place} (collection '{self.name}')")
        if self._connection.lite is None:
            ask("be opened", lambda: self._load(self.name))

    def all(self) -> list[str]:
        """All versions, the oldest first."""
        wait = self._connection.wait
        found = self._connection.ask("be opened", lambda: self._client.list_collections(**wait))
        return versions_among(list(found), self.name)

    def current(self) -> str:
        """The version that readers see."""
        return str(self._connection.describe(self.name)["collection_name"])

    def index(self, version: str) -> Mapping[str, str]:
        """The kind of index of a version (`index_type`) and its parameters; nothing in Milvus Lite, which has none."""
        if self._connection.lite is not None:
            return {}
        about: Mapping[str, str] | None = self._connection.ask(
            "be opened", lambda: self._client.describe_index(version, "embedding", **self._connection.wait)
        )
        return about or {}

    def is_ready(self, version: str) -> bool:
        """Whether a server has indexed every entry that it has written down, and taken the index into memory."""
        about = self.index(version)
        loaded = sum(one.num_rows for one in self._client.list_loaded_segments(version))
        return not int(about["pending_index_rows"]) and loaded >= int(about["total_rows"])

    def begin(self, current: str) -> tuple[str, bool]:
        """The version after the current one, and whether a refresh that was killed has begun it."""
        later = [one for one in self.all() if number_of(one) > number_of(current)]
        if later:
            if self._connection.lite is None:
                self._connection.ask("be refreshed", lambda: self._load(later[0]))
            return later[0], True
        return self._create(number_of(current) + 1, self.index(current)), False

    def switch(self, version: str) -> None:
        """Let readers see a version."""
        client, wait = self._client, self._connection.wait
        if self.current() != self.name:
            self._connection.ask("be refreshed", lambda: client.alter_alias(version, self.name, **wait))
            return
        with self._connection.gate.alone():  # once, for a gallery that is older than versions
            before = f"{self.name}__v0"
            self._connection.ask("be refreshed", lambda: client.rename_collection(self.name, before, **wait))
            self._connection.ask("be refreshed", lambda: client.create_alias(version, self.name, **wait))

    def drop_others(self, current: str) -> None:
        """Drop every version but the current one, once nobody of this process reads."""
        for version in self.all():
            if version != current:
                with self._connection.gate.alone():
                    self._connection.ask("be refreshed", partial(self._drop, version))

    def _drop(self, version: str) -> None:
        self._client.drop_collection(version, **self._connection.wait)

    def _names(self) -> list[str]:
        found = self._connection.ask(
            "be opened", lambda: self._client.list_collections(**self._connection.wait)
        )
        return sorted({gallery_of(one) for one in found})

    def _load(self, collection: str) -> None:
        wait, settings = self._connection.wait, self._connection.settings
        if not self._client.list_indexes(collection):
            self._client.create_index(collection, settings.index_for(self._client, {}), **wait)
        self._client.load_collection(collection, **settings.loading, **wait)

    def _create(self, number: int, index: Mapping[str, str]) -> str:
        """A collection with its card, made in one step; its name.

        Milvus Lite gets no index. It would gain nothing (exact search compares everything anyway), and Milvus Lite
        writes index files in place: a process that is killed meanwhile leaves half a file that cannot be opened.
        """
        from pymilvus import DataType

        name = f"{self.name}__v{number}"
        settings, lite = self._connection.settings, self._connection.lite
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("side", DataType.VARCHAR, max_length=8)
        for column in ("source", "route", "version", "key"):
            schema.add_field(column, DataType.VARCHAR, max_length=LONGEST)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=self.card.joint)
        options: dict[str, Any] = {} if lite is not None else {"num_shards": settings.shards}
        self._connection.ask(
            "be opened",
            lambda: self._client.create_collection(
                name,
                schema=schema,
                properties={ABOUT: json.dumps(asdict(self.card))},
                consistency_level=settings.consistency,
                **options,
                **self._connection.wait,
            ),
        )
        if lite is None:
            index_params = settings.index_for(self._client, index)
            self._connection.ask(
                "be opened",
                lambda: self._client.create_index(name, index_params, **self._connection.wait),
            )
            self._connection.ask("be opened", lambda: self._load(name))
        return name


def check(about: str | None, card: GalleryCard, where: str) -> None:
    """Refuses a collection that is not a gallery, or one that was made with something else."""
    try:
        found = json.loads(about or "")
        values = {name: found[name] for name in ("format", "backbone", "joint", "retriever")}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InterplayError(f"{where} is not an interplay gallery; choose another collection.") from None
    if values["format"] != card.format:
        raise InterplayError(
            f"The gallery {where} has format {values['format']}; this version of interplay reads {card.format}."
        )
    for name, title in (("backbone", "backbone"), ("joint", "embedding width"), ("retriever", "retriever")):
        old, new = str(values[name])[:12], str(getattr(card, name))[:12]
        if values[name] != getattr(card, name):
            raise InterplayError(
                f"The gallery {where} was made with another {title} ({old}, here {new}): open it with the "
                "retriever that it was made with, or choose another gallery."
            )
