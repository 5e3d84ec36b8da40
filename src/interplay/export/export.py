"""A trained classifier or retriever as ONNX files, with all that serving needs without PyTorch."""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.errors import InterplayError
from interplay.files import write_text

if TYPE_CHECKING:
    from interplay.classification.classifier import Classifier
    from interplay.export.graphs import Graph
    from interplay.retrieval.retriever import Retriever
    from interplay.towers.backbone import Backbone

DESCRIPTION = "export.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1
OPSETS = range(18, 22)
TOLERANCE = 1e-4
"""What vectors and probabilities may differ by from PyTorch's; more is no export."""
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_RESIZE = (
    "RGB with the EXIF orientation applied, 16-bit grey divided by 257 and transparency laid on white; where 'edges' "
    "is one number, a picture more than 64 times as long as wide is cut to 64 around its centre, and its shorter edge "
    "becomes 'edges' and the longer one int(edges * longer / shorter); where it is two, they are height and width; "
    "resized by Pillow with 'filter'; the centre square of 'size' is cut out at (edge - size) // 2"
)


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where.
        sizes: bytes of every file, by its name.
        parity: for every graph, the largest difference of each output from PyTorch's, on random inputs.
    """

    folder: Path
    sizes: dict[str, int]
    parity: dict[str, dict[str, float]]

    @property
    def files(self) -> list[Path]:
        """The paths of the files."""
        return [self.folder / name for name in self.sizes]


def to_onnx(
    trained: Classifier | Retriever, folder: str | Path, *, opset: int = 18, encoders: bool = False
) -> Exported:
    """Write a trained method with its frozen towers as ONNX, and measure that it computes the same.

    A classifier becomes `pair.onnx`: pixels and ids → logits and probabilities. A retriever becomes `image.onnx` and
    `text.onnx`, pixels or ids → normalised vectors, equal to `encode_images` and `encode_texts`: which session's
    prompts a sample takes is chosen inside. Beside them stand `tokenizer.json` and `export.json`. The folder is there
    whole or not at all.

    Args:
        trained: a classifier, or a retriever whose method is not coupled.
        folder: a new or empty one.
        opset: of ONNX, 18 to 21.
        encoders: of a classifier whose method is not coupled, also write `image.onnx`, `text.onnx` and `head.onnx`
            (both vectors → logits and probabilities), so that vectors can be kept.

    Raises:
        InterplayError: packages that are missing; a folder with something in it; an unknown opset; a classifier that is
            not trained; a method that cannot be cut into sides; a graph that differs from PyTorch by more than 1e-4.
    """
    target = Path(folder).absolute()
    _check(target, opset)
    source = _on_cpu(trained)
    graphs, description = _described(source, encoders)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        exported = _write(scratch, target, source.backbone, graphs, description, opset)
        os.replace(scratch, target)
    except OSError as error:
        raise InterplayError(
            f"Could not write {target}: {error.strerror or error}. Make room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return exported


def _check(target: Path, opset: int) -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InterplayError(f"The export needs {', '.join(missing)}: pip install {' '.join(missing)}.")
    if opset not in OPSETS:
        raise InterplayError(f"The export writes ONNX opset {OPSETS[0]} to {OPSETS[-1]}, not {opset}.")
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InterplayError(
            f"{target} exists and is not an empty folder: choose another one, or remove it first."
        )


def _on_cpu(trained: Classifier | Retriever) -> Classifier | Retriever:
    """Itself where it is on the CPU already, else a copy that is."""
    from interplay.retrieval.retriever import Retriever

    if trained.backbone.device.type == "cpu":
        return trained
    moved = copy.deepcopy(trained)
    moved.backbone.cpu()
    if isinstance(moved, Retriever):
        moved.method.cpu()
    elif moved.model is not None:
        moved.model.cpu()
    return moved


def _described(source: Classifier | Retriever, encoders: bool) -> tuple[dict[str, Graph], dict[str, Any]]:
    """The graphs by the name of their files, and what `export.json` says of the method."""
    from interplay.retrieval.retriever import Retriever

    if isinstance(source, Retriever):
        return _retriever(source), {
            "task": "retrieval",
            "method": source.method_name,
            "settings": source.settings,
            "sessions": list(source.sessions),
            "context": source.backbone.text.shape.positions - source.method.traits.reserve,
        }
    if source.model is None or source.card is None:
        raise InterplayError("This Classifier is not trained yet: there is nothing to export.")
    return _classifier(source, encoders), {
        "task": "classification",
        "method": source.method_name,
        "settings": source.settings,
        "labels": list(source.labels or ()),
        "kind": source.kind,
        "head": asdict(source.model.head.settings),
        "scale": source.backbone.scale,
        "context": source.backbone.text.shape.positions - source.model.reserve,
    }


def _retriever(source: Retriever) -> dict[str, Graph]:
    from interplay.export.graphs import INPUTS, Graph, SideGraph
    from interplay.towers.tokens import SIDES

    if source.method.traits.coupled:
        raise InterplayError(
            f"The method '{source.method_name}' with these settings encodes true pairs, so there are no encoders of "
            "one side to export."
        )
    if source.method.sessions.abstains or {*source.bare} - {*source.method.sessions.left_out}:
        raise InterplayError(
            "Some samples of this retriever take no prompts at all (distance=gaussian, keep=helpful), and a graph "
            "cannot choose that."
        )
    method = source.method if source.sessions else None  # before the first session the towers are bare
    return {
        f"{side}.onnx": Graph(
            SideGraph(source.backbone.tower(side), side, method, "prediction"), (INPUTS[side],), ("vectors",)
        )
        for side in SIDES
    }


def _classifier(source: Classifier, encoders: bool) -> dict[str, Graph]:
    from interplay.export.graphs import INPUTS, Chooser, Graph, HeadGraph, PairGraph, SideGraph
    from interplay.towers.tokens import SIDES

    model, backbone = source.model, source.backbone
    assert model is not None
    outputs = ("logits", "probabilities")
    graphs = {"pair.onnx": Graph(PairGraph(backbone, model), ("pixels", "ids"), outputs)}
    if not encoders:
        return graphs
    if model.method.traits.coupled or model.suffix is not None or model.class_prompts is not None:
        raise InterplayError(
            f"The method '{source.method_name}' with this head reads image and text together, or makes its class texts "
            "itself, so there are no encoders of one side to export: leave 'encoders' (--encoders) out."
        )
    if model.head.hidden is not None:
        raise InterplayError(
            "This head reads hidden states of the towers (readout = hidden) beside their vectors, so encoders of one "
            "side are not enough for it: leave 'encoders' (--encoders) out, or train with --head kind=linear."
        )
    chooser: Chooser = "training" if model.method.traits.reads_keys else "none"
    for side in SIDES:
        module = SideGraph(backbone.tower(side), side, model.method, chooser)
        graphs[f"{side}.onnx"] = Graph(module, (INPUTS[side],), ("vectors",))
    return graphs | {"head.onnx": Graph(HeadGraph(model), ("image", "text"), outputs)}


def _write(
    scratch: Path,
    target: Path,
    backbone: Backbone,
    graphs: dict[str, Graph],
    description: dict[str, Any],
    opset: int,
) -> Exported:
    from PIL import Image

    from interplay.export.graphs import parity, write

    context: int = description.pop("context")
    measured: dict[str, dict[str, float]] = {}
    for name, graph in graphs.items():
        write(graph, scratch / name, backbone, context, opset)
        measured[name] = parity(graph, scratch / name, backbone, context)
        for output, value in measured[name].items():
            if output != "logits" and not value <= TOLERANCE:
                raise InterplayError(
                    f"{name} would give {output} that differ from PyTorch's by {value:.1e}, more than {TOLERANCE:.0e}: "
                    "nothing was exported. Please report this with the method and its settings."
                )
    tokenizer = backbone.tokenizer_json()
    if tokenizer is not None:
        write_text(scratch / TOKENIZER, tokenizer)
    described = {
        "format": FORMAT,
        **description,
        "image": {
            "size": backbone.image_size,
            "resize": _RESIZE,
            "edges": backbone.square.resize or backbone.image_size,
            "filter": Image.Resampling(backbone.square.resample).name,
            "divide": backbone.image.normalisation.divisor,
            "mean": backbone.image.mean.flatten().tolist(),
            "std": backbone.image.deviation.flatten().tolist(),
        },
        "text": {
            "tokenizer": None if tokenizer is None else TOKENIZER,
            "context": context,
            "end_token": backbone.text.shape.end_token,
            "padding": "behind the end token, with the end token; a text too long is cut and ends in it too",
        },
        "graphs": {
            name: {"inputs": list(graph.inputs), "outputs": list(graph.outputs)}
            for name, graph in graphs.items()
        },
        "parity": measured,
        "backbone": backbone.name,
        "backbone_digest": backbone.digest,
        "opset": opset,
        "versions": {name: installed(name) for name in ("interplay", "torch", *_PACKAGES)},
    }
    write_text(scratch / DESCRIPTION, json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    sizes = {path.name: path.stat().st_size for path in sorted(scratch.iterdir())}
    return Exported(target, sizes, measured)
