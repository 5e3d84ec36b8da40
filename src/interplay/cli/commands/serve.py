"""`interplay serve`: one process that answers for all trained methods of a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from interplay.cli.commands.demo import DEMO, SEARCHED, SHOWN
from interplay.cli.commands.demo_retrieval import GALLERY, RUN
from interplay.cli.open_gallery import TOKEN
from interplay.cli.options import Further
from interplay.cli.result import Result, note
from interplay.cli.runs import open_backbone
from interplay.errors import InterplayError
from interplay.service.settings import ServiceSettings

GROUP = "Serve"


def serve(
    *,
    models: str | None = None,
    demo: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | None = None,
    preload: tuple[str, ...] = (),
    gallery: tuple[str, ...] = (),
    page: bool = True,
    root_path: str = "",
    settings: Annotated[Mapping[str, Any] | None, Further(ServiceSettings, "Limits")] = None,
) -> Result:
    """Answer for all trained methods of a folder, over HTTP and in the browser: classify, embed, search.

    Examples:

      interplay serve --models runs
      interplay serve --demo
      interplay serve --models runs --port 80 --host 0.0.0.0 --token-file tokens.txt

    Requests for different models share a batch on one backbone. A retriever whose run holds a gallery is searched at
    /v1/search. /ui is a page for browsers, and /docs shows all routes. SIGTERM and Ctrl-C end requests in flight, and
    then the process.

    Args:
        models: the folder that your runs are in.
        demo: serve what 'interplay demo' has made in demo-out.
        host: the address to listen at; another one than this machine's own needs --token-file.
        port: the port to listen at; 0 takes a free one.
        token_file: hashes of the tokens that may ask, as 'interplay token' writes them.
        preload: names of runs to load at once and keep; by default all are loaded.
        gallery: where the gallery of a run is, if not in it, RUN=FOLDER or RUN=http://HOST:19530.
        page: whether there is a page for browsers.
        root_path: what a proxy takes off the front of every path, as /interplay.
    """
    from interplay.settings import make_settings

    if (models is None) != demo:
        raise InterplayError("Give the folder that your runs are in, --models, or --demo for the demo's.")
    folder = _demo() if models is None else Path(models)
    places = dict(_place(word) for word in gallery)
    if demo and (folder / SEARCHED / GALLERY).is_dir():
        places.setdefault(f"{SEARCHED}/{RUN}", str(folder / SEARCHED / GALLERY))
    limits: ServiceSettings = make_settings(ServiceSettings, settings or {}, "the service")
    try:
        from interplay.service.run import Place, serve
    except ModuleNotFoundError as missing:
        raise InterplayError(
            f"The service needs the package '{missing.name}': install it with pip install 'interplay[serve]'."
        ) from None
    place = Place(
        folder,
        open_backbone,
        host,
        port,
        None if token_file is None else Path(token_file),
        preload or None,
        places,
        os.environ.get(TOKEN),
        page,
        root_path,
    )
    serve(
        place,
        limits,
        lambda address: note(f"Serving {folder} at {address}; {_shown(address, page)}"),
    )
    return Result({"models": str(folder)}, "The service has ended.")


def _shown(address: str, page: bool) -> str:
    routes = f"{address}/docs shows the routes."
    return f"{address}/ui is the page, {routes}" if page else routes


def _demo() -> Path:
    """The folder that the demo writes.

    Raises:
        InterplayError: it has not run here.
    """
    from interplay.artifacts import WEIGHTS

    folder = Path(DEMO)
    if not (folder / SHOWN / WEIGHTS).exists():
        raise InterplayError(
            f"There is no demo in {DEMO} here yet: make it by 'interplay demo' (a few minutes), and for the search by "
            f"'interplay demo retrieval --out {DEMO}/{SEARCHED}'."
        )
    return folder


def _place(word: str) -> tuple[str, str]:
    """Run and place of a gallery.

    Raises:
        InterplayError: there is no `=` between them.
    """
    run, equals, place = word.partition("=")
    if not equals or not run or not place:
        raise InterplayError(f"--gallery takes RUN=FOLDER or RUN=ADDRESS, not '{word}'.")
    return run, place
