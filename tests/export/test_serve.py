"""From the command line to a server without PyTorch: what it answers is what the classifier says."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from interplay.classification.classifier import Classifier
from interplay.cli import main
from interplay.export.export import TOLERANCE
from tests.cli.conftest import write_toy

SERVER = Path(__file__).parents[2] / "examples" / "serve_onnx.py"
WITHOUT = """
import runpy, sys
for name in ("torch", "transformers", "interplay"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained probe in `run`, and nothing else."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERPLAY_CACHE", str(folder / "cache"))
        words = [
            "train",
            "--method",
            "linear_probe",
            "--data",
            write_toy(folder / "toy"),
            "--out",
            folder / "run",
        ]
        assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def address(served: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", WITHOUT, str(SERVER), str(served / "out"), str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, server.communicate()[1].decode()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate()


def post(address: str, image: bytes, text: str) -> dict[str, float]:
    edge = "edge-of-a-part"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    more = f'\r\n--{edge}\r\nContent-Disposition: form-data; name="text"\r\n\r\n{text}\r\n--{edge}--\r\n'
    request = urllib.request.Request(
        address,
        head.encode() + image + more.encode(),
        {"Content-Type": f"multipart/form-data; boundary={edge}"},
    )
    with urllib.request.urlopen(request) as answer:
        found: dict[str, float] = json.load(answer)
    return found


def png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def test_export_and_serve(
    served: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["export", str(served / "run"), "--out", str(served / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["sizes"]) == ["export.json", "pair.onnx", "tokenizer.json"]
    assert told["sizes"]["pair.onnx"] == (served / "out" / "pair.onnx").stat().st_size
    assert 0 <= told["parity"]["pair.onnx"]["probabilities"] < TOLERANCE
    assert main(["export", str(served / "run"), "--out", str(served / "out")]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    address = request.getfixturevalue("address")
    classifier = Classifier.from_pretrained(str(served / "run"))
    wide = Image.radial_gradient("L").resize((90, 61)).convert("RGB")
    clear = Image.new("RGBA", (40, 77), (200, 30, 30, 90))
    pictures = [png(wide), png(clear), png(Image.new("RGB", (12, 12), (30, 180, 30)))]
    texts = ["a red square", "Café, naïve!", "a very long text " * 60]
    wanted = classifier.predict_proba(pictures, texts)
    for picture, text, row in zip(pictures, texts, wanted.tolist(), strict=True):
        found = post(address, picture, text)
        assert tuple(found) == classifier.labels
        assert max(abs(a - b) for a, b in zip(found.values(), row, strict=True)) < TOLERANCE


def test_an_unknown_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 2
    assert "There is no folder" in capsys.readouterr().err
