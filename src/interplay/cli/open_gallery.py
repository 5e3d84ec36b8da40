"""What the commands around a gallery share: where it lies, how it is opened, and files of texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.cli.runs import open_retriever
from interplay.errors import InterplayError
from interplay.files import read_text

if TYPE_CHECKING:
    from interplay.gallery.gallery import Gallery

GALLERY = "gallery.db"
"""Where a run's gallery is when no other place is named."""
TOKEN = "INTERPLAY_GALLERY_TOKEN"
"""Environment variable with the token of a Milvus server that wants one; never an option, which others could see."""


def place_of(run: str, gallery: str | None) -> str:
    """Where the gallery of a run is, as it may be shown.

    Raises:
        InterplayError: it is neither a folder nor an address.
    """
    from interplay.gallery.address import Address

    return Address.of(str(Path(run) / GALLERY) if gallery is None else gallery).shown


def open_gallery(
    run: str,
    gallery: str | None,
    collection: str,
    backbone: str | None,
    settings: Mapping[str, Any] | None,
    *,
    create: bool = False,
) -> Gallery:
    """The gallery that a command means, with its retriever.

    Args:
        run: the folder of the retriever.
        gallery: a folder or an address; None for that of the run.
        backbone: where to load the backbone from, if not from where the run says.
        settings: of `ServerSettings`, those that were given.
        create: make it where there is none.

    Raises:
        InterplayError: the method cannot index, there is no gallery, or as `Gallery.open`.
    """
    from interplay.gallery.address import Address, ServerSettings
    from interplay.settings import make_settings

    chosen: ServerSettings = make_settings(ServerSettings, settings or {}, "the gallery's server")
    place = str(Path(run) / GALLERY) if gallery is None else gallery
    folder = Address.of(place).folder
    retriever = open_retriever(run, backbone)
    if retriever.method.traits.coupled:
        raise InterplayError(
            f"The retriever of {run} lets image and text talk while they are encoded: a gallery needs each side "
            "encoded alone, as lpi-m and lpi-p do."
        )
    if not create and folder is not None and not folder.exists():
        raise InterplayError(
            f"There is no gallery '{place}': make it by 'interplay index {run} --images FOLDER'."
        )
    from interplay.gallery.gallery import Gallery

    return Gallery.open(retriever, place, collection, os.environ.get(TOKEN), create=create, settings=chosen)


def texts_of(file: str | None) -> list[str]:
    """The texts of a file, one a line; none where there is no file.

    Raises:
        InterplayError: it cannot be read, or holds none.
    """
    if file is None:
        return []
    if not Path(file).is_file():
        raise InterplayError(f"There is no file of texts '{file}'.")
    found = [line.strip() for line in read_text(Path(file)).splitlines() if line.strip()]
    if not found:
        raise InterplayError(f"The file of texts '{file}' is empty.")
    return found
