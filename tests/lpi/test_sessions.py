"""The rules of a stream, for every method whose sessions are isolated: what was learned stays as it is, bit for bit."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.encoding.trainable import PairBatch, keys_of
from interplay.methods.base import Method
from interplay.methods.registry import choices, choose
from interplay.parts.prompt_bank import PromptBank
from interplay.retrieval.model import PairRetriever
from interplay.retrieval.retriever import SHARED, Retriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Shape, Side
from interplay.towers.walk import encode
from tests.conftest import small_shape
from tests.kernels import KernelsByShape
from tests.lpi.toy import QUICK, pairs, picture


def build(name: str, shape: Shape) -> Method:
    """A method with its small settings, as a stream has it."""
    choice = choose(name)
    torch.manual_seed(3)
    return choice.build(shape, {**choice.preset, **choice.method.tiny()})


def in_a_session(name: str) -> Method:
    method = build(name, small_shape())
    method.sessions.begin("first", torch.zeros(16))
    return method


# the logistic probes build no prompts and know no sessions
IN_STREAMS = sorted(name for name, choice in choices().items() if choice.method.traits.solver.by_gradient)
ISOLATED = [name for name in IN_STREAMS if in_a_session(name).sessions.isolates]
BANKED = [name for name in IN_STREAMS if any(isinstance(m, PromptBank) for m in in_a_session(name).modules())]


def samples(session: int, backbone: Backbone, count: int = 7) -> PairBatch:
    """Pictures and texts of one session."""
    random = torch.Generator().manual_seed(100 + session)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=random)
    texts = [chr(97 + session) + "cdefghijklmn"[: 1 + row % 11] for row in range(count)]
    return PairBatch(pixels, backbone.tokenize(texts), torch.arange(count))


def learn(method: Method, session: int, backbone: Backbone, count: int = 7) -> None:
    """Two steps of the contrastive loss and everything around them."""
    torch.manual_seed(50 + session)
    method.sessions.begin(f"task {session}", F.normalize(torch.randn(16), dim=0))
    model, batch = PairRetriever(method, 16, 10.0).train(), samples(session, backbone, count)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        model.training_loss(backbone, batch).backward()
        optimizer.step()
    method.sessions.end(keys_of(backbone, batch))
    method.eval()


def learned(name: str, sessions: int, backbone: Backbone, count: int = 7) -> Method:
    method = build(name, backbone.shape)
    for session in range(sessions):
        learn(method, session, backbone, count)
    return method


def encoded(method: Method, batch: PairBatch, route: list[int], backbone: Backbone) -> dict[Side, Tensor]:
    inputs: dict[Side, Any] = {"image": batch.images, "text": batch.texts}
    with torch.no_grad():
        return {
            side: encode(backbone.tower(side), side, inputs[side], method, route=torch.tensor(route))
            for side in SIDES
        }


def weights(method: Method) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def test_the_methods_with_isolated_sessions_are_those_with_sets_of_their_own() -> None:
    assert {"lpi-m", "lpi-p", "s_prompts", "maple", "dcp"} <= set(ISOLATED)
    assert not {"l2p", "dual_prompt", "lora", "maple-sequential", "p_clip"} & set(ISOLATED)


@pytest.fixture
def by_shape() -> Iterator[None]:
    """Kernels that round by shape: what is equal does not hang on the processor."""
    with KernelsByShape():
        yield


@pytest.mark.bitwise
@pytest.mark.usefixtures("by_shape")
@pytest.mark.parametrize("name", ISOLATED)
def test_ten_more_sessions_leave_the_first_as_it_was(name: str, backbone: Backbone) -> None:
    method, batch = learned(name, 1, backbone), samples(0, backbone)
    state, before = weights(method), encoded(method, batch, [0] * 7, backbone)
    later = []
    for session in range(1, 11):
        learn(method, session, backbone)
        now = weights(method)
        assert all(torch.equal(now[key], value) for key, value in state.items())
        later.append(encoded(method, batch, [session] * 7, backbone))
    after = encoded(method, batch, [0] * 7, backbone)
    for side in SIDES:
        assert torch.equal(after[side], before[side])
        assert all(not torch.equal(newer[side], before[side]) for newer in later)
    assert len(method.sessions.names) == 11


@pytest.mark.parametrize("name", ISOLATED)
def test_what_stands_beside_a_sample_does_not_matter(name: str, backbone: Backbone) -> None:
    method, batch = learned(name, 4, backbone), samples(2, backbone)
    one = encoded(method, batch, [3, 0, 1, 1, 2, 3, 0], backbone)
    other = encoded(method, batch, [3, 1, 2, 1, 0, 2, 1], backbone)
    for row, route in enumerate([3, 0, 1, 1, 2, 3, 0]):
        rows = PairBatch(batch.images[row : row + 1], batch.texts[row : row + 1])  # type: ignore[index]
        alone = encoded(method, rows, [route], backbone)
        for side in SIDES:
            torch.testing.assert_close(one[side][row], alone[side][0], atol=2e-5, rtol=1e-4)
            if row in (0, 3):
                torch.testing.assert_close(one[side][row], other[side][row], atol=2e-5, rtol=1e-4)
            elif row != 4:
                assert not torch.allclose(one[side][row], other[side][row], atol=1e-4)


@pytest.mark.bitwise
@pytest.mark.usefixtures("by_shape")
@pytest.mark.parametrize("name", ISOLATED)
@pytest.mark.parametrize("gone", [0, 1, 3])
def test_forgetting_takes_out_one_session_and_no_more(name: str, gone: int, backbone: Backbone) -> None:
    method, batch = learned(name, 4, backbone), samples(1, backbone)
    keys = keys_of(backbone, samples(gone, backbone))
    state = weights(method)
    before = [encoded(method, batch, [session] * 7, backbone) for session in range(4)]
    method.sessions.forget(f"task {gone}")
    kept = [session for session in range(4) if session != gone]
    assert method.sessions.names == [f"task {session}" for session in kept]
    expected = {}
    for key, value in state.items():
        stem, number, leaf = numbered(key)
        if number != gone:
            expected[f"{stem}.{kept.index(number)}.{leaf}"] = value
    now = weights(method)
    assert now.keys() == expected.keys()
    assert all(torch.equal(now[key], value) for key, value in expected.items())
    for place, session in enumerate(kept):
        after = encoded(method, batch, [place] * 7, backbone)
        assert all(torch.equal(after[side], before[session][side]) for side in SIDES)
    for side in SIDES:
        route = method.sessions.route(side, keys.side(side))
        assert route is not None
        assert set(route.tolist()) <= {0, 1, 2}


def numbered(key: str) -> tuple[str, int, str]:
    """`bank.sets.2.image` → (`bank.sets`, 2, `image`)."""
    for stem in ("bank.sets", "bank.keys.kept"):
        if key.startswith(f"{stem}."):
            number, _, leaf = key.removeprefix(f"{stem}.").partition(".")
            return stem, int(number), leaf
    raise AssertionError(f"{key} belongs to no session")


@pytest.mark.parametrize("name", ISOLATED)
def test_a_method_that_forgot_everything_learns_again(name: str, backbone: Backbone) -> None:
    method = learned(name, 2, backbone)
    for session in (1, 0):
        method.sessions.forget(f"task {session}")
    assert method.sessions.route("image", torch.zeros(2, 16)) is None
    learn(method, 5, backbone)
    fresh = build(name, backbone.shape)
    fresh.sessions.begin("task 5", torch.zeros(16))
    assert weights(method).keys() == weights(fresh).keys()
    assert all(parameter.requires_grad for parameter in method.parameters())


def held(method: Method) -> int:
    """Numbers in all tensors that a method keeps anywhere, in its state or beside it."""
    memo: dict[int, Any] = {}
    copy.deepcopy(method, memo)
    return sum(kept.numel() for kept in memo.values() if isinstance(kept, Tensor))


@pytest.mark.parametrize("name", ISOLATED)
def test_no_sample_is_kept(name: str, backbone: Backbone) -> None:
    few, many = learned(name, 3, backbone, count=6), learned(name, 3, backbone, count=40)
    shapes = [{key: value.shape for key, value in method.state_dict().items()} for method in (few, many)]
    assert shapes[0] == shapes[1]
    assert held(few) == held(many)
    sizes = dict.fromkeys(range(3), 0)
    for key, value in many.state_dict().items():
        sizes[numbered(key)[1]] += value.numel()
    assert len(set(sizes.values())) == 1


@pytest.mark.parametrize("name", BANKED)
def test_every_prompt_of_every_layer_acts(
    name: str, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead prompts, the classic defect: silence the prompts of one layer and side, and the output must change."""
    method, batch = learned(name, 2, backbone), samples(0, backbone)
    given = PromptBank.stream
    asked: dict[Side, int] = {}
    silent: tuple[Side, int] | None = None

    def stream(bank: PromptBank, side: Side, route: Tensor | None) -> Tensor:
        found = given(bank, side, route).clone()
        asked[side] = found.shape[-3]
        if silent is not None and silent[0] == side:
            found[..., silent[1], :, :] = 0
        return found

    monkeypatch.setattr(PromptBank, "stream", stream)
    route = [0, 1, 0, 1, 0, 1, 0] if method.sessions.routes_tasks else None
    reference = outputs(method, batch, route, backbone)
    assert asked
    for side, layers in asked.items():
        assert layers == len(newest(method, side))
        for layer in range(layers):
            silent = side, layer
            assert not torch.equal(outputs(method, batch, route, backbone)[side], reference[side]), silent


def outputs(
    method: Method, batch: PairBatch, route: list[int] | None, backbone: Backbone
) -> dict[Side, Tensor]:
    if route is not None:
        return encoded(method, batch, route, backbone)
    inputs: dict[Side, Any] = {"image": batch.images, "text": batch.texts}
    return {side: encode(backbone.tower(side), side, inputs[side], method) for side in SIDES}


def newest(method: Method, side: Side) -> Tensor:
    found: Tensor = method.bank.newest(side)
    return found


@pytest.mark.parametrize("name", ["s_prompts", "maple", "dcp", "dual_prompt", "l2p", "lora"])
def test_a_copy_lets_go_of_what_it_was_copied_from(name: str) -> None:
    """`Retriever.learn` trains a copy: what makes its fresh sets must not keep the older method in memory."""
    method = build(name, small_shape())
    older = weakref.ref(method)
    twin = copy.deepcopy(method)
    del method
    gc.collect()
    assert older() is None
    assert list(twin.parameters())


def test_the_set_that_the_last_session_leaves_is_where_the_others_were() -> None:
    method = in_a_session("maple").to("meta")
    method.sessions.forget("first")
    assert {parameter.device.type for parameter in method.parameters()} == {"meta"}


def test_frozen_clip_is_a_row_of_the_table(backbone: Backbone) -> None:
    retriever = Retriever(backbone, "zero_shot")
    for task in range(2):
        assert retriever.learn(f"task {task}", pairs(task), settings=QUICK) is None
    images, words = [picture(i, 50 * (i % 2)) for i in range(5)], ["cat 1 0", "moon"]
    assert torch.equal(retriever.encode_images(images), retriever.keys("image", images))
    assert torch.equal(retriever.encode_texts(words), retriever.keys("text", words))
    assert retriever.routes("text", retriever.keys("text", words)) == [SHARED] * 2
    assert retriever.margins("image", retriever.keys("image", images)) is None
    assert not retriever.method.state_dict()
