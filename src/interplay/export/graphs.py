"""What an export consists of: one graph of plain tensors a file, written as ONNX and compared with PyTorch."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.exc import UserError

from interplay.classification.model import PairClassifier
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Side, Tower
from interplay.towers.walk import Vectors, encode

Chooser = Literal["prediction", "training", "none"]
"""Who says which of a method's prompts a sample takes: `SessionPolicy.route`, `training_route`, or nobody."""

INPUTS: Mapping[Side, str] = {"image": "pixels", "text": "ids"}
"""What the graph of each side reads, by the name of its input."""
INLINE = 1_500_000_000
"""Bytes of weights from which they stand in a file of their own: ONNX files end at 2 GiB."""
_BATCH = 4096
_TALKATIVE = ("torch.onnx._internal.exporter._registration", "onnxscript.optimizer._constant_folding")
_SHORTEST = 3


class SideGraph(nn.Module):
    """One side to normalised joint vectors, the choice of the prompts included: (batch, …) → (batch, joint)."""

    def __init__(self, tower: Tower, side: Side, method: Method | None, chooser: Chooser) -> None:
        super().__init__()
        self.tower = tower
        self.side: Side = side
        self.method = method
        self.chooser = chooser

    def forward(self, inputs: Tensor) -> Tensor:
        """What the tower reads → vectors (batch, joint) of length 1."""
        route = None
        if self.method is not None and self.chooser != "none":
            keys = F.normalize(encode(self.tower, self.side, inputs), dim=-1)
            sessions = self.method.sessions
            choose = sessions.route if self.chooser == "prediction" else sessions.training_route
            route = choose(self.side, keys)
        return F.normalize(encode(self.tower, self.side, inputs, self.method, route=route), dim=-1)


class PairGraph(nn.Module):
    """A whole classifier: pixels and ids → logits and probabilities, each (batch, classes)."""

    def __init__(self, backbone: Backbone, model: PairClassifier) -> None:
        super().__init__()
        self.backbone = backbone
        self.model = model

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and texts side by side."""
        logits: Tensor = self.model(self.backbone, PairBatch(pixels, ids))
        return logits, self.model.probabilities(logits)


class HeadGraph(nn.Module):
    """What follows the towers: vectors of both sides → logits and probabilities, each (batch, classes)."""

    def __init__(self, model: PairClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, joint) of each side; normalised or not is the same."""
        logits: Tensor = self.model.head(Vectors(image, text))
        return logits, self.model.probabilities(logits)


@dataclass(frozen=True)
class Graph:
    """One file of an export.

    Attributes:
        module: what is written.
        inputs: among `pixels` (batch, 3, size, size) float32, normalised; `ids` (batch, length) int64, padded on the
            right with the end token; `image`, `text` (batch, joint) float32.
        outputs: names of what comes out, float32.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def example(backbone: Backbone, context: int, inputs: Sequence[str], lengths: Sequence[int]) -> list[Tensor]:
    """Random inputs of a graph from a fixed seed, one sample a length; only their form matters.

    Args:
        context: the longest text, in tokens.
        lengths: tokens of each text, the end token included; longer ones are cut.
    """
    generator = torch.Generator().manual_seed(len(lengths))
    size, text = backbone.image_size, backbone.text.shape
    rows = torch.tensor([min(length, context) for length in lengths])
    words = torch.randint(0, text.vocabulary, (len(rows), int(rows.max())), generator=generator)
    words = torch.where(words == text.end_token, (words + 1) % text.vocabulary, words)
    padding = torch.arange(words.shape[1]) >= rows[:, None] - 1
    vectors = torch.randn(2, len(rows), backbone.shape.joint, generator=generator)
    known = {
        "pixels": torch.randn(len(rows), 3, size, size, generator=generator),
        "ids": words.masked_fill(padding, text.end_token),
        "image": F.normalize(vectors[0], dim=-1),
        "text": F.normalize(vectors[1], dim=-1),
    }
    return [known[name] for name in inputs]


def _dynamic(inputs: Sequence[str], context: int) -> tuple[dict[int, Any], ...]:
    from torch.export import Dim

    batch, length = Dim("batch", max=_BATCH), Dim("length", min=_SHORTEST, max=context)
    return tuple({0: batch, 1: length} if name == "ids" else {0: batch} for name in inputs)


def _translations() -> dict[Any, Any]:
    """The distance by which sessions are told apart; the exporter knows the Euclidean one alone."""
    from onnxscript import opset18 as op

    def distance(x1: Any, x2: Any, p: float = 2.0, compute_mode: int | None = None) -> Any:
        assert p == 1.0, f"no distance of order {p}"
        apart = op.Abs(op.Sub(op.Unsqueeze(x1, [1]), op.Unsqueeze(x2, [0])))
        return op.ReduceSum(apart, [2], keepdims=0)

    return {torch.ops.aten._cdist_forward.default: distance}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself: a deprecation inside torch, operators of packages that are absent."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def write(graph: Graph, path: Path, backbone: Backbone, context: int, opset: int) -> None:
    """Trace a graph with free batch size and text length, and write it as ONNX.

    Args:
        path: of the file; weights of more than `INLINE` bytes go into `path` with `.data` after its name.
        context: the longest text, in tokens.
        opset: of ONNX.

    Raises:
        InterplayError: the method has operations whose sizes PyTorch's exporter cannot leave free.
    """
    inputs = tuple(example(backbone, context, graph.inputs, (5, 9)))
    module = graph.module.eval()
    with torch.no_grad(), _quiet():
        module(*inputs)  # what is materialised once is no part of the trace
        try:
            traced = torch.export.export(module, inputs, dynamic_shapes=_dynamic(graph.inputs, context))
        except UserError as problem:
            raise InterplayError(
                f"This method cannot be written as ONNX with a free batch size and text length: {_first(problem)}"
            ) from problem
        program = torch.onnx.export(
            traced,
            (),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=opset,
            dynamo=True,
            verbose=False,
            custom_translation_table=_translations(),
        )
    assert program is not None
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    program.save(path, external_data=size > INLINE)


def _first(problem: Exception) -> str:
    return str(problem).strip().splitlines()[0]


def parity(graph: Graph, path: Path, backbone: Backbone, context: int) -> dict[str, float]:
    """The largest difference between the file under onnxruntime and PyTorch, for each output.

    Measured on random inputs: one short text alone, and five samples with texts from short to as long as they may be.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(graph.outputs, 0.0)
    for lengths in ((4,), (3, context, 9, 5, context // 2 + 1)):
        inputs = example(backbone, context, graph.inputs, lengths)
        with torch.no_grad():
            wanted = graph.module(*inputs)
        found = session.run(None, feed(graph.inputs, inputs))
        for name, one, other in zip(
            graph.outputs, found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True
        ):
            worst[name] = max(worst[name], float((torch.from_numpy(one) - other).abs().max()))
    return worst


def feed(names: Sequence[str], inputs: Sequence[Tensor]) -> Mapping[str, Any]:
    """Tensors as onnxruntime takes them."""
    return {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
