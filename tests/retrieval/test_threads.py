"""One retriever encodes from many threads at once, and each gets what it would get alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from interplay import Retriever
from interplay.towers.backbone import Backbone, load_backbone
from tests.lpi.toy import picture


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.mark.parametrize("method", ["linear_map", "lpi-m", "l2p", "dual_prompt", "lora", "maple"])
def test_threads_get_what_each_would_get_alone(tiny: Backbone, method: str) -> None:
    retriever = Retriever(tiny, method)
    torch.manual_seed(0)
    for name in ("a", "b"):
        meaning = torch.nn.functional.normalize(torch.randn(retriever.joint), dim=0)
        retriever.method.sessions.begin(name, meaning)
    pictures = [[picture(number, 100 + number) for number in range(start, start + 3)] for start in range(6)]
    texts = [[f"text {start} {'long ' * number}" for number in range(3)] for start in range(6)]

    def encode(at: int) -> torch.Tensor:
        return torch.cat([retriever.encode_images(pictures[at]), retriever.encode_texts(texts[at])])

    alone = [encode(at) for at in range(6)]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(encode, [*range(6)] * 2))
    for one, other in zip(alone * 2, together, strict=True):
        assert torch.equal(one, other)
