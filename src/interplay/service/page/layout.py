"""The four tabs in Gradio, and which handler belongs to which button."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from fastapi import FastAPI

from interplay.service.page.handlers import SIDES, Handlers
from interplay.service.page.looks import CSS, DROP, DROP_CSS, DROP_SCRIPT, theme
from interplay.service.tokens import Holder

_QUIET: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}


def make_blocks(handlers: Handlers) -> Any:
    """The page; it is mounted by `opening`."""
    with gr.Blocks(title="interplay", analytics_enabled=False) as page:
        gr.HTML("<h1>interplay</h1>")
        with gr.Tabs(overflow_behavior="wrap"):
            with gr.Tab("Classify"):
                classifier = _classify(handlers)
            with gr.Tab("Search"):
                searched = _search(handlers)
            with gr.Tab("Gallery and sessions"):
                retriever = _gallery(handlers)
            with gr.Tab("Models") as last:
                model, table = _models(handlers)

        async def begun(request: gr.Request) -> tuple[Any, ...]:
            holder = _holder(request)
            names = (
                handlers.classifiers(holder),
                handlers.galleries(holder),
                handlers.retrievers(holder),
                handlers.models(holder),
            )
            return (*(_choice(some) for some in names), handlers.table(holder))

        async def again(request: gr.Request) -> str:
            return handlers.table(_holder(request))

        page.load(begun, None, [classifier, searched, retriever, model, table], **_QUIET)
        last.select(again, None, table, **_QUIET)
    page.queue(default_concurrency_limit=None, api_open=False)
    return page


def _holder(request: gr.Request) -> Holder:
    """Who asks, as the gate has found; the request is that which an event came with."""
    assert request.request is not None
    holder: Holder = request.request.scope["state"]["holder"]
    return holder


def _choice(names: list[str]) -> Any:
    return gr.update(choices=names, value=names[0] if names else None)


def _model(label: str) -> gr.Dropdown:
    return gr.Dropdown([], label=label, allow_custom_value=True)


def _picture(label: str) -> gr.HTML:
    return gr.HTML(
        "", html_template=DROP, css_template=DROP_CSS, js_on_load=DROP_SCRIPT, label=label, min_width=260
    )


def _classify(handlers: Handlers) -> gr.Dropdown:
    model = _model("Classifier")
    with gr.Row(elem_id="pair"):
        picture = _picture("Picture")
        text = gr.Textbox(label="Text", lines=3, min_width=260)
    least = gr.Slider(0, 100, 0, step=5, label="Abstain below this certainty, in percent")
    button = gr.Button("Classify", variant="primary", elem_id="classify")
    answer = gr.HTML(elem_id="classified")

    async def classify(model: str, picture: str, text: str, least: float, request: gr.Request) -> str:
        return await handlers.classify(_holder(request), model, picture, text, least)

    button.click(classify, [model, picture, text, least], answer, **_QUIET)
    return model


def _search(handlers: Handlers) -> gr.Dropdown:
    model = _model("Retriever")
    text = gr.Textbox(label="Search for", placeholder="a red fruit", elem_id="query")
    picture = _picture("Picture")
    find = gr.Radio(list(SIDES), value="Pictures", label="Find")
    hits = gr.Slider(1, 50, 10, step=1, label="Hits")
    where = gr.Textbox(label="Filter over metadata", placeholder="price < 80")
    button = gr.Button("Search", variant="primary", elem_id="search")
    answer = gr.HTML(elem_id="found")

    async def search(
        model: str, text: str, picture: str, find: str, hits: float, where: str, request: gr.Request
    ) -> str:
        return await handlers.search(_holder(request), model, text, picture, find, hits, where)

    asked = [model, text, picture, find, hits, where]
    button.click(search, asked, answer, **_QUIET)
    text.submit(search, asked, answer, **_QUIET)
    return model


def _gallery(handlers: Handlers) -> gr.Dropdown:
    model = _model("Retriever")
    shown = gr.HTML(elem_id="entries")
    button = gr.Button("Refresh the gallery", elem_id="refresh")
    answer = gr.HTML(elem_id="refreshed")

    async def show(model: str, request: gr.Request) -> str:
        return await handlers.gallery(_holder(request), model)

    async def refresh(model: str, request: gr.Request) -> AsyncIterator[str]:
        async for words in handlers.refresh(_holder(request), model):
            yield words

    model.change(show, model, shown, **_QUIET)
    button.click(refresh, model, answer, **_QUIET).then(show, model, shown, **_QUIET)
    return model


def _models(handlers: Handlers) -> tuple[gr.Dropdown, gr.HTML]:
    table = gr.HTML(elem_id="models")
    model = _model("Model")
    with gr.Row():
        load = gr.Button("Load", elem_id="load")
        unload = gr.Button("Unload", elem_id="unload")
    answer = gr.HTML(elem_id="changed")

    async def loaded(model: str, request: gr.Request) -> tuple[str, str]:
        holder = _holder(request)
        return await handlers.load(holder, model), handlers.table(holder)

    async def unloaded(model: str, request: gr.Request) -> tuple[str, str]:
        holder = _holder(request)
        return await handlers.unload(holder, model), handlers.table(holder)

    load.click(loaded, model, [answer, table], **_QUIET)
    unload.click(unloaded, model, [answer, table], **_QUIET)
    return model, table


def carried(handlers: Handlers) -> FastAPI:
    """The page in an application that carries it, whose lifespan begins and ends it."""
    carrier = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        carrier,
        make_blocks(handlers),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS,
    )
    return carrier
