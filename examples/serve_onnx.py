"""Serve a classifier that 'interplay export' wrote, over HTTP: onnxruntime, numpy, pillow and tokenizers, no PyTorch.

    python examples/serve_onnx.py FOLDER [PORT]
    curl -F image=@cat.png -F text="grinning cat" http://127.0.0.1:8000

The answer is JSON, one probability a label. It listens on this machine alone and has neither limits nor passwords:
put it behind something that has.
"""

import email
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer

FOLDER = Path(sys.argv[1])
ABOUT = json.loads((FOLDER / "export.json").read_text("utf-8"))
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
SESSION = onnxruntime.InferenceSession(FOLDER / "pair.onnx", providers=["CPUExecutionProvider"])


def pixels(data: bytes) -> np.ndarray:
    about, picture = ABOUT["image"], ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if picture.mode.startswith("I"):  # 16-bit grey
        picture = Image.fromarray(np.round(np.asarray(picture) / 257).astype(np.uint8))
    picture = picture.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    size, (width, height) = about["size"], picture.size
    edges = about.get("edges", size)  # older exports know CLIP's own rule alone
    if isinstance(edges, int):  # the shorter one
        wide = width > height
        edges = [edges, int(edges * width / height)] if wide else [int(edges * height / width), edges]
    left, top = (edges[1] - size) // 2, (edges[0] - size) // 2
    resized = picture.resize(edges[::-1], Image.Resampling[about.get("filter", "BICUBIC")])
    square = np.asarray(resized)[top : top + size, left : left + size]
    return ((square / about["divide"] - about["mean"]) / about["std"]).transpose(2, 0, 1)[None].astype("f4")


def ids(text: str) -> np.ndarray:
    words = TOKENIZER.encode(text).ids[:-1][: ABOUT["text"]["context"] - 1]
    return np.array([[*words, ABOUT["text"]["end_token"]]])


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = email.message_from_bytes(f"Content-Type: {self.headers['Content-Type']}\n\n".encode() + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        image, text = (parts[name].get_payload(decode=True) for name in ("image", "text"))
        inputs = {"pixels": pixels(image), "ids": ids(text.decode())}
        found = SESSION.run(["probabilities"], inputs)[0][0].tolist()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(dict(zip(ABOUT["labels"], found, strict=True))).encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int((sys.argv[2:] or ["8000"])[0])), Handler).serve_forever()
