"""The command that writes a trained method as ONNX: export."""

from __future__ import annotations

from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, columns
from interplay.cli.runs import open_retriever, open_run, task_of

GROUP = "Classify"


def export(
    run: str, *, out: str, opset: int = 18, encoders: bool = False, backbone: str | None = None
) -> Result:
    """Write a trained method with its frozen towers as ONNX files that need neither PyTorch nor interplay.

    Examples:

      interplay export runs/relation --out serve/relation
      interplay export runs/emoji --out serve/emoji --json

    A classifier becomes pair.onnx (pixels and token ids to probabilities), a retriever image.onnx and text.onnx (to
    vectors). Beside them stand tokenizer.json and export.json, which says how to prepare pictures and texts. Every file
    is run and compared with PyTorch before the folder appears. Needs the packages onnx, onnxruntime and onnxscript.

    Args:
        run: the folder that 'interplay train --out' or 'interplay continual --out' wrote.
        out: a new or empty folder.
        opset: of ONNX, 18 to 21.
        encoders: of a classifier whose towers run apart, also write image.onnx, text.onnx and head.onnx.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    out_folder(out)
    opened = (open_retriever if task_of(run) == "retrieval" else open_run)(run, backbone)
    from interplay.export.export import to_onnx

    exported = to_onnx(opened, out, opset=opset, encoders=encoders)
    found = {"run": run, "out": out, "sizes": exported.sizes, "parity": exported.parity}
    rows = [
        (name, size, ", ".join(f"{key} {worst:.1e}" for key, worst in exported.parity.get(name, {}).items()))
        for name, size in exported.sizes.items()
    ]
    table = columns(("file", "bytes", "largest difference from PyTorch"), rows)
    return Result(found, f"{opened.method_name} is in {out}.\n\n{table}")
