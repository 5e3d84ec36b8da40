"""Two processes that each hold a share of a batch, for tests that compare them with one that holds it all."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import ProcessContext, start_processes

from interplay.encoding.batches import shares
from interplay.encoding.trainable import PairBatch, Trainable
from interplay.errors import InterplayError
from interplay.methods.registry import choices, choose
from interplay.retrieval.model import PairRetriever
from interplay.towers.backbone import Backbone
from interplay.training.gathering import gathered
from tests.contract.world import Subject, towers
from tests.lpi.test_sessions import build, learn, samples
from tests.train.toy import toy_backbone

WORLD, PATIENCE = 2, 120.0
BY_GRADIENT = sorted(name for name, choice in choices().items() if choice.method.traits.solver.by_gradient)


def on_two(work: Callable[..., None], place: Path, *arguments: Any) -> None:
    """Run `work(*arguments)` in two forked processes that are connected by gloo; what they raise is raised here."""
    (place / "meeting").unlink(missing_ok=True)
    context: ProcessContext = start_processes(  # type: ignore[no-untyped-call]
        _connected, (work, place / "meeting", arguments), WORLD, join=False, start_method="fork"
    )
    try:
        while not context.join(PATIENCE, grace_period=1.0):
            assert all(process.is_alive() or process.exitcode == 0 for process in context.processes)
    finally:
        for process in context.processes:
            process.kill()


def _connected(rank: int, work: Callable[..., None], meeting: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)  # the threads of the process that was forked are not here
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    work(*arguments)
    torch.distributed.destroy_process_group()


def subjects(name: str, pairs: int) -> Iterator[tuple[Trainable, Backbone, PairBatch]]:
    """A method as a classifier, and in the second session of a stream, each with a batch."""
    subject = Subject(choose(name), towers())
    batch = samples(3, subject.backbone, pairs)
    yield subject.classifier(), subject.backbone, replace(batch, targets=torch.arange(pairs) % 3)
    backbone = toy_backbone()
    method = build(name, backbone.shape)
    if not list(method.parameters()):
        return
    learn(method, 0, backbone)
    method.sessions.begin("second", F.normalize(torch.ones(16), dim=0))
    batch = samples(1, backbone, pairs)
    owners = torch.arange(pairs).clamp(
        max=max(1, pairs - 2)
    )  # two captions of one picture, in two processes' shares
    yield PairRetriever(method, 16, 10.0).train(), backbone, replace(batch, targets=owners)


def part(batch: PairBatch, rows: slice) -> PairBatch:
    """Some pairs of a batch."""
    assert isinstance(batch.images, Tensor)
    assert isinstance(batch.texts, Tensor)
    assert batch.targets is not None
    return PairBatch(batch.images[rows], batch.texts[rows], batch.targets[rows])


def gradients(model: Trainable) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def compare(name: str, pairs: int, dtype: torch.dtype) -> None:
    """Loss and gradient of a batch in shares are those of the whole batch, within 1e-6 of the largest of them.

    Beyond single precision a method may amplify rounding; double precision says whether the two are the same function.
    """
    bound = 1e-6 if dtype == torch.float32 else 1e-10
    for model, backbone, batch in subjects(name, pairs):
        model.zero_grad()
        if dtype == torch.float64:
            model, backbone = model.double(), copy.deepcopy(backbone).double()
        whole, spread = copy.deepcopy(model), model
        expected = whole.training_loss(backbone, batch)
        expected.backward()
        counts, rank = shares(pairs, WORLD), torch.distributed.get_rank()
        start = sum(counts[:rank])
        mine = part(batch, slice(start, start + counts[rank]) if counts[rank] else slice(1))
        found = spread.training_loss(backbone, mine, partial(gathered, counts=counts))
        found.backward()
        what = f"{name}, {type(model).__name__}, {pairs} pairs"
        torch.testing.assert_close(found, expected, atol=bound, rtol=bound, msg=lambda m, w=what: f"{w}: {m}")
        right = gradients(whole)
        scale = max([1.0, *(float(g.abs().max()) for g in right.values() if g is not None)])
        for key, gradient in gradients(spread).items():
            one = right[key]
            assert (gradient is None) == (one is None), f"{what}: {key}"
            if gradient is None or one is None:
                continue
            torch.distributed.all_reduce(gradient)
            torch.testing.assert_close(
                gradient / WORLD / scale,
                one / scale,
                atol=bound,
                rtol=0,
                msg=lambda m, w=what, k=key: f"{w}: {k}: {m}",
            )


def compare_all(names: list[str], sizes: list[int], dtype: torch.dtype) -> None:
    """`compare` for some methods and batches."""
    for name in names:
        for pairs in sizes:
            compare(name, pairs, dtype)


@dataclass
class Ending:
    """A loss that ends the training in one of its calls, by a mistake that is told or by killing its process.

    Attributes:
        calls: until then, those of validation among them.
        kills: whether the process of the second rank is killed.
    """

    calls: int
    kills: bool = False

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls == 0 and not self.kills:
            raise InterplayError("The test stops here.")
        if self.calls == 0 and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return F.cross_entropy(logits, targets)
