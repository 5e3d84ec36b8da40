"""How a retriever learns one more session: new prompts, their keys, and the training of both."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from interplay.data.schema import PairTable, Split
from interplay.data.sessions import Session, by_caption, by_picture, seed_of
from interplay.encoding.batches import EncodedTable
from interplay.encoding.embedding import embed, table_inputs, text_inputs
from interplay.encoding.inputs import encode_table
from interplay.methods.base import Method
from interplay.retrieval import run_folder
from interplay.retrieval.keeping import Standing, session_helps
from interplay.retrieval.model import PairRetriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES
from interplay.towers.walk import Keys
from interplay.training.report import FitReport
from interplay.training.settings import TrainSettings
from interplay.training.train import check_accelerator, fit


def learned(
    method: Method,
    backbone: Backbone,
    session: Session,
    settings: TrainSettings,
    *,
    seed: int,
    run: str | Path | None = None,
    resume: bool = False,
    standing: Standing | None = None,
) -> tuple[Method, FitReport | None, bool]:
    """A method that has learned one more session, what came out of the training, and whether that is kept.

    The method that is given stays as it is.

    Args:
        method: as the earlier sessions left it.
        session: with the splits `train` and, for what is trained by gradient, `validation`.
        seed: of the retriever.
        settings, run, resume: as `Retriever.learn` takes them.
        standing: the vectors that pairs have so far; given, what was trained is kept only where it is better.

    Raises:
        InterplayError: as `Retriever.learn`.
    """
    check_accelerator(settings)
    reserve = method.traits.reserve
    train = _encoded(session.table, "train", backbone, reserve)
    keys = _keys_of(train, backbone)
    before, method = method, _begun(method, session.name, backbone, seed)
    report, held_out, kept = None, None, True
    reader = method if method.sessions.reads_features else None
    if reader is not None:
        keys = _keys_of(train, backbone, reader)
    if method.sessions.reads_held_out and "validation" in session.table.splits():
        held_out = _keys_of(_encoded(session.table, "validation", backbone, reserve), backbone, reader)
    if method.traits.solver.by_gradient:
        validation = _encoded(session.table, "validation", backbone, reserve)
        if method.traits.reads_keys:
            train = replace(train, keys=keys)
            validation = replace(validation, keys=_keys_of(validation, backbone))
        model = PairRetriever(method, backbone.shape.joint, backbone.scale)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(run) if run is not None else Path(scratch)
            with run_folder.session(folder, session.name):
                report = fit(model, backbone, train, validation, settings, folder, resume=resume)
        kept = standing is None or session_helps(method.eval(), backbone, (validation, train), standing)
        if not kept and not method.sessions.isolates:
            method = _begun(before, session.name, backbone, seed)
    method.sessions.end(keys, held_out)
    return method.eval(), report, kept


def _begun(method: Method, name: str, backbone: Backbone, seed: int) -> Method:
    """A copy of a method in which a session has begun."""
    method = copy.deepcopy(method)
    meaning = _meaning(name, backbone)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, name))
        method.sessions.begin(name, meaning)
    return method


def trained_parameters(method: Method) -> int:
    """How many parameters one session trains."""
    if not method.traits.solver.by_gradient:
        return 0
    return sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)


def _encoded(table: PairTable, split: Split, backbone: Backbone, reserve: int) -> EncodedTable:
    """One row a caption, with the number of its image as target."""
    pictures, _ = by_picture(table.split(split))
    rows, owners = by_caption(pictures)
    return replace(encode_table(rows, backbone, reserve=reserve), targets=torch.tensor(owners))


def _keys_of(table: EncodedTable, backbone: Backbone, method: Method | None = None) -> Keys:
    """The keys of all pairs, or what a method gives in their place."""
    return Keys(*(embed(table_inputs(table, side), backbone, method) for side in SIDES))


def _meaning(name: str, backbone: Backbone) -> Tensor:
    """The bare text tower's vector of a task's name: (joint,)."""
    words = name.replace("-", " ").replace("_", " ")
    return embed(text_inputs([words], backbone), backbone)[0]
