"""Prompt interaction for frozen vision-language models.

The public names; each is imported when it is first used, so importing the package does no work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interplay.bulk.embed import embed
    from interplay.classification.adapter_bank import AdapterBank
    from interplay.classification.classifier import Classifier
    from interplay.data import PairTable, load
    from interplay.embeddings import read_embeddings
    from interplay.errors import InterplayError
    from interplay.gallery.gallery import Gallery
    from interplay.retrieval.retriever import Retriever
    from interplay.towers.backbone import Backbone, load_backbone
    from interplay.training.settings import TrainSettings

_HOME = {
    "AdapterBank": "interplay.classification.adapter_bank",
    "Backbone": "interplay.towers.backbone",
    "Classifier": "interplay.classification.classifier",
    "Gallery": "interplay.gallery.gallery",
    "InterplayError": "interplay.errors",
    "PairTable": "interplay.data",
    "Retriever": "interplay.retrieval.retriever",
    "TrainSettings": "interplay.training.settings",
    "embed": "interplay.bulk.embed",
    "load": "interplay.data",
    "load_backbone": "interplay.towers.backbone",
    "read_embeddings": "interplay.embeddings",
}

__all__ = [
    "AdapterBank",
    "Backbone",
    "Classifier",
    "Gallery",
    "InterplayError",
    "PairTable",
    "Retriever",
    "TrainSettings",
    "embed",
    "load",
    "load_backbone",
    "read_embeddings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'interplay' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
