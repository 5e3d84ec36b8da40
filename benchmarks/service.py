"""What serving costs beside the bare model; all ratios of one run, on one machine.

    python -m benchmarks.service --backbone tiny --seconds 20
    python -m benchmarks.service --backbone clip-vit-base-patch32 --only mixed
    python -m benchmarks.service --only soak --seconds 600

Clients are a process of their own, with keep-alive connections in a closed loop: each asks again when it is answered.
A backbone that is not bundled gets random weights: its predictions mean nothing, its speed does. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from interplay import Backbone, Classifier, Retriever, load, load_backbone
from interplay.encoding.inputs import pairs_of
from interplay.training.settings import TrainSettings

ADAPTERS = 8
CLIENTS = 32
WORDS = ("a", "drawing", "of", "a", "small", "red", "house", "by", "the", "sea")
MAIN = "import sys; from interplay.cli import main; sys.exit(main())"


def picture(seed: int, edge: int = 96) -> bytes:
    """A PNG file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def open_backbone(name: str) -> Backbone:
    """The bundled one, or another with random weights."""
    return load_backbone(name, random_weights=name != "tiny")


def make_runs(folder: Path, backbone: Backbone, method: str) -> None:
    """Eight classifiers of one method and a retriever; barely trained, since only their cost matters."""
    rows: dict[str, Any] = {
        "image": [picture(i) for i in range(8)],
        "text": ["red", "blue"] * 4,
        "label": ["r", "b"] * 4,
        "split": ["train"] * 4 + ["validation"] * 4,
    }
    quick = TrainSettings(epochs=1, batch_size=4, progress=False, loggers=())
    for seed in range(ADAPTERS):
        classifier = Classifier(backbone, method, head={"kind": "pair"}, seed=seed)
        classifier.fit(load(rows), settings=quick)
        classifier.save_pretrained(folder / f"adapter-{seed}")
    Retriever(backbone, "linear_map").save_pretrained(folder / "retriever")


def body(seed: int, model: str) -> bytes:
    """The JSON of a request for one pair."""
    image = f"data:image/png;base64,{base64.b64encode(picture(seed)).decode()}"
    text = " ".join(np.random.default_rng(seed).permutation(list(WORDS)))
    return json.dumps({"model": model, "pairs": [{"image": image, "text": text}]}).encode()


async def client(
    port: int, bodies: list[bytes], until: float, route: str, found: list[tuple[int, float]]
) -> None:
    """One client: status and seconds of each of its answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    at = 0
    while time.monotonic() < until:
        content = bodies[at % len(bodies)]
        at += 1
        head = (
            f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        begun = time.monotonic()
        writer.write(head.encode() + content)
        status = int((await reader.readline()).split()[1])
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await reader.readexactly(length)
        found.append((status, time.monotonic() - begun))
    writer.close()


def load_of(port: int, models: list[str], clients: int, seconds: float, distinct: int = 64) -> None:
    """Ask in a closed loop, and print statuses and times as JSON; run in a process of its own."""
    bodies = [body(i, models[i % len(models)]) for i in range(max(distinct, len(models)))]

    async def play() -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        until = time.monotonic() + seconds
        own = [bodies[i::clients] or bodies for i in range(clients)]
        await asyncio.gather(*(client(port, some, until, "/v1/classify", found) for some in own))
        return found

    found = asyncio.run(play())
    print(json.dumps({"status": Counter(status for status, _ in found), "seconds": [s for _, s in found]}))


def asked(port: int, models: list[str], clients: int, seconds: float) -> dict[str, Any]:
    """What a process of clients found."""
    words = ["--load", str(port), ",".join(models), str(clients), str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.service", *words], check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


class Server:
    """A service in a process of its own.

    Args:
        folder: of the runs.
    """

    def __init__(self, folder: Path) -> None:
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "serve", "--models", str(folder), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = next((one for one in self.process.stderr if one.startswith("Serving ")), "")
        if not line:
            raise RuntimeError("the service did not start")
        self.port = int(line.split(" at ")[1].split(";")[0].rpartition(":")[2])
        asked(self.port, ["adapter-0"], 1, 0.01)
        self.started = time.monotonic() - begun

    def memory(self) -> float:
        """Resident MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def p99(seconds: list[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return float(np.quantile(seconds, 0.99)) * 1000


def mixed(server: Server, seconds: float, clients: int, rounds: int = 3) -> None:
    """p99 of requests for eight adapters beside requests for one, in turns."""
    names = [f"adapter-{i}" for i in range(ADAPTERS)]
    one: list[float] = []
    many: list[float] = []
    for _ in range(rounds):
        one += asked(server.port, names[:1], clients, seconds / rounds)["seconds"]
        many += asked(server.port, names, clients, seconds / rounds)["seconds"]
    ratio = p99(many) / p99(one)
    print(
        f"mixed, {clients} clients: p99 {p99(one):.1f} ms with one adapter ({len(one)} answers), {p99(many):.1f} ms "
        f"with {ADAPTERS} ({len(many)}): {ratio:.3f} (target 1.05)",
        flush=True,
    )


def throughput(server: Server, folder: Path, backbone: Backbone, seconds: float) -> None:
    """Pairs a second at 32 clients beside one batch call after the other on the same backbone."""
    classifier = Classifier.from_pretrained(folder / "adapter-0", backbone=backbone)
    images, texts = [picture(i) for i in range(CLIENTS)], [" ".join(WORDS)] * CLIENTS
    served, offline, rounds = 0, 0, 3
    spent = 0.0
    classifier.predict_proba(images, texts, batch_size=CLIENTS)
    for _ in range(rounds):
        served += len(asked(server.port, ["adapter-0"], CLIENTS, seconds / rounds)["seconds"])
        until = time.monotonic() + seconds / rounds
        begun = time.monotonic()
        while time.monotonic() < until:
            classifier.predict_proba(images, texts, batch_size=CLIENTS)
            offline += CLIENTS
        spent += time.monotonic() - begun
    ratio = (served / seconds) / (offline / spent)
    print(
        f"throughput, {CLIENTS} clients: {served / seconds:.1f} pairs/s served, {offline / spent:.1f} offline in "
        f"batches of {CLIENTS}: {ratio:.3f} (target 0.8)",
        flush=True,
    )


def overhead(server: Server, folder: Path, backbone: Backbone, seconds: float) -> None:
    """Milliseconds of one request alone beyond the forward of one pair that is decoded already."""
    classifier = Classifier.from_pretrained(folder / "adapter-0", backbone=backbone)
    table = pairs_of(picture(0), " ".join(WORDS)).encode(backbone)
    model = classifier._ready()
    bare: list[float] = []
    served: list[float] = []
    for _ in range(3):
        served += asked(server.port, ["adapter-0"], 1, seconds / 6)["seconds"]
        until = time.monotonic() + seconds / 6
        while time.monotonic() < until:
            begun = time.monotonic()
            with torch.no_grad():
                model.probabilities(model(backbone, table.collate([0])))
            bare.append(time.monotonic() - begun)
    alone, whole = (float(np.median(some)) * 1000 for some in (bare, served))
    print(
        f"overhead: {whole:.2f} ms a request, {alone:.2f} ms the bare forward: {whole - alone:.2f} ms (target 5)",
        flush=True,
    )


def soak(server: Server, seconds: float) -> None:
    """Answers other than 200 and 429, and memory after warm-up and at the end."""
    names = [f"adapter-{i}" for i in range(ADAPTERS)]
    warm = min(30.0, seconds / 4)
    asked(server.port, names, CLIENTS, warm)
    before, statuses = server.memory(), Counter[str]()
    left = seconds - warm
    while left > 0:
        statuses.update(asked(server.port, names, CLIENTS, min(60.0, left))["status"])
        left -= 60
    after = server.memory()
    unexpected = sum(count for status, count in statuses.items() if status not in ("200", "429"))
    print(
        f"soak, {seconds:.0f} s at {CLIENTS} clients: {dict(statuses)}, {unexpected} unexpected (target 0); memory "
        f"{before:.0f} MiB after warm-up, {after:.0f} MiB at the end: {after / before - 1:+.1%} (target 5 %)",
        flush=True,
    )


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        load_of(int(sys.argv[2]), sys.argv[3].split(","), int(sys.argv[4]), float(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--method", default="mitp")
    parser.add_argument("--seconds", type=float, default=20, help="of every measurement")
    parser.add_argument("--clients", type=int, default=ADAPTERS, help="of the mixed measurement")
    parser.add_argument("--only", choices=("mixed", "throughput", "overhead", "soak"))
    options = parser.parse_args()
    backbone = open_backbone(options.backbone)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_runs(folder, backbone, options.method)
        server = Server(folder)
        print(
            f"{options.backbone}, {options.method}: first answer after {server.started:.1f} s (target 5)",
            flush=True,
        )
        if options.only in (None, "overhead"):
            overhead(server, folder, backbone, options.seconds)
        if options.only in (None, "throughput"):
            throughput(server, folder, backbone, options.seconds)
        if options.only in (None, "mixed"):
            mixed(server, options.seconds, options.clients)
        if options.only in (None, "soak"):
            soak(server, options.seconds)
        print(f"SIGTERM: exit code {server.stop()}")


if __name__ == "__main__":
    main()
