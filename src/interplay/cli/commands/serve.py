"""`interplay serve`: one process that answers for all trained methods of a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from interplay.cli.open_gallery import TOKEN
from interplay.cli.options import Further
from interplay.cli.result import Result, note
from interplay.cli.runs import open_backbone
from interplay.errors import InterplayError
from interplay.service.settings import ServiceSettings

GROUP = "Serve"


def serve(
    *,
    models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | None = None,
    preload: tuple[str, ...] = (),
    gallery: tuple[str, ...] = (),
    settings: Annotated[Mapping[str, Any] | None, Further(ServiceSettings, "Limits")] = None,
) -> Result:
    """Answer for all trained methods of a folder over HTTP: classify, embed, search.

    Examples:

      interplay serve --models runs
      interplay serve --models runs --port 80 --host 0.0.0.0 --token-file tokens.txt

    Requests for different models share a batch on one backbone. A retriever whose run holds a gallery is searched at
    /v1/search. /docs shows all routes. SIGTERM and Ctrl-C end requests in flight, and then the process.

    Args:
        models: the folder that your runs are in.
        host: the address to listen at; another one than this machine's own needs --token-file.
        port: the port to listen at; 0 takes a free one.
        token_file: hashes of the tokens that may ask, as 'interplay token' writes them.
        preload: names of runs to load at once and keep; by default all are loaded.
        gallery: where the gallery of a run is, if not in it, RUN=FOLDER or RUN=http://HOST:19530.
    """
    from interplay.settings import make_settings

    limits: ServiceSettings = make_settings(ServiceSettings, settings or {}, "the service")
    try:
        from interplay.service.run import Place, serve
    except ModuleNotFoundError as missing:
        raise InterplayError(
            f"The service needs the package '{missing.name}': install it with pip install 'interplay[serve]'."
        ) from None
    place = Place(
        Path(models),
        open_backbone,
        host,
        port,
        None if token_file is None else Path(token_file),
        preload or None,
        dict(_place(word) for word in gallery),
        os.environ.get(TOKEN),
    )
    serve(
        place,
        limits,
        lambda address: note(f"Serving {models} at {address}; {address}/docs shows the routes."),
    )
    return Result({"models": models}, "The service has ended.")


def _place(word: str) -> tuple[str, str]:
    """Run and place of a gallery.

    Raises:
        InterplayError: there is no `=` between them.
    """
    run, equals, place = word.partition("=")
    if not equals or not run or not place:
        raise InterplayError(f"--gallery takes RUN=FOLDER or RUN=ADDRESS, not '{word}'.")
    return run, place
