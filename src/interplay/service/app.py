"""The service over HTTP: routes that hand requests to the core and put its answers into JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from interplay.artifacts import version
from interplay.errors import InterplayError
from interplay.service import messages as m
from interplay.service.core import Service
from interplay.service.faults import Conflict, Refused, Unusable
from interplay.service.gate import Gate, Rates, fault_body, fault_headers
from interplay.service.metrics import Metrics
from interplay.service.page.entrance import PREFIX, Entrance
from interplay.service.page.handlers import Handlers
from interplay.service.page.opening import Page
from interplay.service.pictures import is_picture
from interplay.service.readiness import Readiness
from interplay.service.requests import Embedded, Growth, Item, Search
from interplay.service.tokens import Holder, Tokens

if TYPE_CHECKING:
    from interplay.gallery.gallery import Hit

_FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": m.FaultAnswer, "description": words}
    for status, words in (
        (401, "No token, or an unknown one."),
        (403, "The token may not do this."),
        (404, "No such model, or not for this token."),
        (409, "Not with this model."),
        (413, "More than a limit allows."),
        (422, "An item that cannot be used; `param` names it."),
        (429, "No room, or too many requests: see Retry-After."),
        (503, "The service ends, or is not ready."),
    )
}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class AsciiJSON(Response):
    """JSON in ASCII: also halves of characters, which UTF-8 has not, can be told."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")


def holder_of(request: Request) -> Holder:
    """Who asks, as the gate has found."""
    holder: Holder = request.scope["state"]["holder"]
    return holder


Asking = Annotated[Holder, Depends(holder_of)]


def make_app(service: Service, *, tokens: Tokens | None = None, page: bool = True) -> FastAPI:
    """The service as an ASGI application.

    Args:
        service: the core; whoever serves the application starts and closes it.
        tokens: None: anyone may ask, on the loopback address alone.
        page: whether there is one for browsers.
    """
    metrics = Metrics(lambda: service.batcher.waiting, lambda: len(service.models.in_memory()))
    service.batcher.observe = metrics.batch
    ui = Page(Handlers(service, metrics.items), None if tokens is None else Entrance(tokens))
    app = FastAPI(
        title="interplay",
        version=version(),
        description="Trained methods on one frozen backbone: classify, embed, search.",
        responses=_FAULTS,
        lifespan=ui.lifespan,
    )
    rates = Rates(service.settings.rate)
    app.add_middleware(Gate, tokens=tokens, rates=rates, settings=service.settings, metrics=metrics)
    _add_faults(app)
    _add_operation(app, metrics, Readiness(service))
    _add_models(app, service)
    _add_answers(app, service, metrics)
    _add_galleries(app, service)
    if page:
        app.mount(PREFIX, ui)
    return app


def _add_faults(app: FastAPI) -> None:
    """Every refusal in one form."""

    async def refused(_: Request, problem: Exception) -> Response:
        known = problem if isinstance(problem, Refused) else Conflict(str(problem))
        return AsciiJSON(fault_body(known), known.status, fault_headers(known))

    async def unreadable(_: Request, problem: Exception) -> Response:
        assert isinstance(problem, RequestValidationError)
        first = problem.errors()[0]
        param = _param(first["loc"])
        fault = Unusable(f"{param or 'The request'}: {first['msg']}.", param)
        return AsciiJSON(fault_body(fault), 422)

    async def http(_: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        fault = Refused(f"{problem.detail}.")
        fault.status = problem.status_code
        fault.code = _CODES.get(problem.status_code, "refused")
        return AsciiJSON(fault_body(fault), problem.status_code, dict(problem.headers or {}))

    app.add_exception_handler(InterplayError, refused)
    app.add_exception_handler(RequestValidationError, unreadable)
    app.add_exception_handler(HTTPException, http)


def _param(place: Sequence[int | str]) -> str:
    """The part of a request that a validation means, as `pairs[2].image`."""
    words = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in place[1:])
    return words.removeprefix(".")


def _add_operation(app: FastAPI, metrics: Metrics, readiness: Readiness) -> None:
    @app.get("/healthz", tags=["operation"], response_class=PlainTextResponse)
    async def healthz() -> str:
        """Alive: the event loop answers."""
        return "ok"

    @app.get("/readyz", tags=["operation"], response_class=PlainTextResponse)
    async def readyz() -> str:
        """Ready: a probe was encoded, all the way that a request takes."""
        await readiness.check()
        return "ready"

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics_text() -> Response:
        """What Prometheus reads."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", tags=["models"])
    async def models(holder: Asking) -> m.ModelsAnswer:
        """The runs that the token may use, loaded or not."""
        found = [state for state in service.states() if holder.may(state.name)]
        return m.ModelsAnswer(data=[m.ModelMessage.of(state) for state in found])

    @app.get("/v1/models/{model:path}", tags=["models"])
    async def model_of(model: str, holder: Asking) -> m.ModelMessage:
        """One run."""
        holder.check(model)
        return m.ModelMessage.of(service.state(model))

    @app.post("/v1/models", tags=["models"])
    async def load(request: m.LoadRequest, holder: Asking) -> m.ModelMessage:
        """Load a run, or read it again where its folder has changed."""
        holder.check(request.model)
        holder.check_manages()
        return m.ModelMessage.of(await service.load(request.model))

    @app.delete("/v1/models/{model:path}", tags=["models"])
    async def unload(model: str, holder: Asking) -> m.Unloaded:
        """Let a run go; its folder stays, and the next request for it loads it again."""
        holder.check(model)
        holder.check_manages()
        return m.Unloaded(id=model, deleted=await service.unload(model))


def _add_answers(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.post("/v1/classify", tags=["answers"])
    async def classify(request: m.ClassifyRequest, holder: Asking) -> m.ClassifyAnswer:
        """Pairs of picture and text → labels with calibrated probabilities, or abstention."""
        holder.check(request.model)
        pairs = [pair.plain() for pair in request.pairs]
        found = await service.classify(request.model, pairs, abstain_below=request.abstain_below)
        metrics.items(request.model, len(found))
        return m.ClassifyAnswer(model=request.model, results=[m.ClassifyResult.of(one) for one in found])

    @app.post("/v1/embeddings", tags=["answers"])
    async def embeddings(request: m.EmbeddingsRequest, holder: Asking) -> m.EmbeddingsAnswer:
        """Texts, pictures or both in one → vectors, in OpenAI's form."""
        name, modality = _model_and_side(service, request)
        holder.check(name)
        given = request.input if isinstance(request.input, list) else [request.input]
        found = await service.embed(name, [_item(one, modality) for one in given])
        width = len(found[0].vector)
        if request.dimensions not in (None, width):
            raise Unusable(f"The vectors of '{name}' have {width} dimensions, and no others.", "dimensions")
        metrics.items(name, len(found))
        words = sum(one.words for one in found)
        return m.EmbeddingsAnswer(
            model=request.model,
            data=[
                m.Embedding(index=at, embedding=_written(one, request.encoding_format))
                for at, one in enumerate(found)
            ],
            usage=m.Usage(prompt_tokens=words, total_tokens=words),
        )

    @app.post("/v1/search", tags=["answers"])
    async def search(request: m.SearchRequest, holder: Asking) -> m.SearchAnswer:
        """A text, a picture or both → hits of a gallery, best first."""
        holder.check(request.model)
        asked = Search(
            _item(request.query, None), request.k, request.find, request.where, request.least_probability
        )
        found = await service.search(request.model, asked)
        metrics.items(request.model, 1)
        hits = [_hit(hit, rate) for hit, rate in zip(found.hits, found.probabilities, strict=True)]
        return m.SearchAnswer(model=request.model, found=bool(hits), hits=hits)


def _add_galleries(app: FastAPI, service: Service) -> None:
    @app.post("/v1/galleries/{model:path}/entries", tags=["galleries"])
    async def grow(model: str, request: m.EntriesRequest, holder: Asking) -> m.EntriesAnswer:
        """Add pictures and texts; what is there already is not encoded again."""
        holder.check(model)
        holder.check_manages()
        items = [one.plain() for one in request.entries]
        about = [Growth("", one.id, one.metadata) for one in request.entries]
        counts = await service.grow(model, items, about)
        return m.EntriesAnswer(**counts, entries=service.galleries.of(model).entries)

    @app.post("/v1/galleries/{model:path}/refresh", tags=["galleries"])
    async def refresh(model: str, holder: Asking) -> m.RefreshAnswer:
        """Read the retriever again and encode what it sees otherwise now; searches go on."""
        holder.check(model)
        holder.check_manages()
        report = await service.refresh(model)
        return m.RefreshAnswer(
            scanned=report.scanned,
            rerouted=report.rerouted,
            reencoded=report.reencoded,
            missing=len(report.missing),
            seconds=report.seconds,
        )

    @app.get(
        "/v1/galleries/{model:path}/thumbnails/{key}",
        tags=["galleries"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    async def thumbnail(model: str, key: str, holder: Asking) -> Response:
        """A small JPEG of an entry's picture."""
        holder.check(model)
        content = await service.thumbnail(model, key)
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})


def _model_and_side(service: Service, request: m.EmbeddingsRequest) -> tuple[str, m.Modality | None]:
    """The retriever, and the side that is meant where one is fixed."""
    name, colon, side = request.model.rpartition(":")
    if request.model in service.models.names or not colon:
        return request.model, request.modality
    sides: dict[str, m.Modality] = {"image": "image", "text": "text"}
    return (name, sides[side]) if side in sides else (request.model, request.modality)


def _item(given: str | m.ItemMessage, modality: m.Modality | None) -> Item:
    """An input for the core; a string is what the modality says, else a picture where it is a data URI."""
    if isinstance(given, m.ItemMessage):
        return given.plain()
    picture = modality == "image" or (modality is None and is_picture(given))
    return Item(image=given) if picture else Item(text=given)


def _written(one: Embedded, form: str) -> list[float] | str:
    vector = one.vector.numpy().astype(np.dtype("<f4"))
    return base64.b64encode(vector.tobytes()).decode("ascii") if form == "base64" else vector.tolist()


def _hit(hit: Hit, probability: float | None) -> m.HitMessage:
    """A hit without the path of its file, which is nobody's business."""
    return m.HitMessage(
        key=hit.key,
        id=hit.id,
        side=hit.side,
        source=PurePath(hit.source).name if hit.side == "image" else hit.source,
        score=hit.score,
        probability=probability,
        route=hit.route,
        stale=hit.stale,
        missing=hit.missing,
        changed=hit.changed,
        metadata=dict(hit.metadata),
    )
