"""The Python API of retrieval: learn, encode, forget, save and load, and what a user can do wrong."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from interplay import artifacts
from interplay.errors import InterplayError
from interplay.locks import writing
from interplay.methods.registry import choices, choose
from interplay.retrieval.retriever import BARE, SHARED, Retriever
from interplay.retrieval.run_folder import TASK
from interplay.towers.backbone import Backbone
from interplay.training.settings import TrainSettings
from tests.lpi.toy import QUICK, SMALL, pairs, picture
from tests.train.toy import toy_backbone


@pytest.fixture(scope="module")
def towers() -> Backbone:
    return toy_backbone()


def learned(towers: Backbone, method: str = "lpi-m", tasks: int = 2) -> Retriever:
    settings = SMALL if method.startswith("lpi") else {}
    retriever = Retriever(towers, method, settings=settings)
    for task in range(tasks):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    return retriever


def test_before_the_first_task_it_is_the_bare_backbone(towers: Backbone) -> None:
    retriever = Retriever(towers, "lpi-m", settings=SMALL)
    images = [picture(i, 0) for i in range(3)]
    keys = retriever.keys("image", images)
    assert retriever.routes("image", keys) == [BARE] * 3
    assert torch.equal(retriever.encode_images(images), keys)
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("captions", [1, 3])
def test_learning_adds_a_task_and_routes_by_the_nearest_centre(towers: Backbone, captions: int) -> None:
    retriever = Retriever(towers, "lpi-p", settings=SMALL)
    for task in (0, 3):
        report = retriever.learn(f"task {task}", pairs(task, captions=captions), settings=QUICK)
        assert report is not None
        assert report.steps == captions
    assert retriever.sessions == ("task 0", "task 3")
    images = [picture(i, shade) for shade in (0, 150) for i in range(100, 104)]
    keys = retriever.keys("image", images)
    assert retriever.routes("image", keys) == ["task 0"] * 4 + ["task 3"] * 4
    margins = retriever.margins("image", keys)
    assert margins is not None
    assert (margins > 0).all()
    given = retriever.encode_images(images, task="task 3")
    torch.testing.assert_close(retriever.encode_images(images)[4:], given[4:])
    assert not torch.allclose(retriever.encode_images(images)[:4], given[:4])


@pytest.mark.bitwise
def test_an_embedding_of_the_first_task_does_not_change_when_another_is_learned(towers: Backbone) -> None:
    retriever = learned(towers, tasks=1)
    images = [picture(i, 0) for i in range(4)]
    before, version = retriever.encode_images(images), retriever.version_of("task 0")
    retriever.learn("task 4", pairs(4), settings=QUICK)
    keys = retriever.keys("image", images)
    assert retriever.routes("image", keys) == ["task 0"] * 4
    assert torch.equal(retriever.encode_images(images), before)
    assert retriever.version_of("task 0") == version
    assert retriever.version_of("task 4") != version


def test_shared_prompts_have_one_route_whose_version_changes(towers: Backbone) -> None:
    retriever = learned(towers, "lpi-m-sequential", tasks=1)
    keys = retriever.keys("text", ["cat", "dog"])
    assert retriever.routes("text", keys) == [SHARED] * 2
    version = retriever.version_of(SHARED)
    retriever.learn("task 1", pairs(1), settings=QUICK)
    assert retriever.version_of(SHARED) != version
    assert retriever.margins("text", keys) is None


def test_the_frozen_backbone_learns_nothing_but_names(towers: Backbone) -> None:
    retriever = Retriever(towers, "zero_shot")
    texts = ["cat", "a dog"]
    before = retriever.encode_texts(texts)
    assert retriever.learn("task 0", pairs(0)) is None
    assert torch.equal(retriever.encode_texts(texts), before)


@pytest.mark.bitwise
def test_save_and_load_keep_everything(towers: Backbone, tmp_path: Path) -> None:
    retriever = learned(towers)
    retriever.save_pretrained(tmp_path / "r")
    again = Retriever.from_pretrained(tmp_path / "r", backbone=towers)
    images = [picture(i, 50 * (i % 2)) for i in range(6)]
    assert torch.equal(again.encode_images(images), retriever.encode_images(images))
    assert again.sessions == retriever.sessions
    assert again.identity == retriever.identity
    assert again.version_of("task 0") == retriever.version_of("task 0")
    for r in (retriever, again):
        r.learn("task 2", pairs(2), settings=QUICK)
    assert torch.equal(again.encode_images(images), retriever.encode_images(images))


@pytest.mark.bitwise
def test_forgetting_a_task_is_exact(towers: Backbone) -> None:
    retriever = learned(towers, tasks=3)
    images = [picture(i, 0) for i in range(4)]
    kept = {name: retriever.version_of(name) for name in ("task 0", "task 2")}
    retriever.forget("task 1")
    assert retriever.sessions == ("task 0", "task 2")
    assert {name: retriever.version_of(name) for name in kept} == kept
    assert set(retriever.routes("image", retriever.keys("image", images))) <= set(kept)
    with pytest.raises(InterplayError, match="'task 1' was not learned; these were: 'task 0', 'task 2'"):
        retriever.forget("task 1")
    with pytest.raises(InterplayError, match="no task 'task 1'"):
        retriever.encode_images(images, task="task 1")
    for name in ("task 2", "task 0"):
        retriever.forget(name)
    assert torch.equal(retriever.encode_images(images), retriever.keys("image", images))


@pytest.mark.bitwise
@pytest.mark.parametrize("method", ["lpi-p", "maple", "dcp", "s_prompts"])
def test_what_is_learned_after_everything_was_forgotten_depends_on_the_seed_alone(
    method: str, towers: Backbone
) -> None:
    weights = []
    for other, seed in enumerate((0, 0, 1)):
        retriever = Retriever(towers, method, settings=choose(method).method.tiny(), seed=seed)
        retriever.learn("task 0", pairs(0), settings=QUICK)
        torch.manual_seed(other)
        retriever.forget("task 0")
        retriever.learn("task 1", pairs(1), settings=QUICK)
        weights.append(parameters_to_vector(retriever.method.bank.sets.parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("method", ["lpi-p", "maple", "dcp", "s_prompts"])
def test_a_task_has_the_same_prompts_wherever_in_the_stream_it_is_learned(
    method: str, towers: Backbone
) -> None:
    settings = dict(choose(method).method.tiny())
    if method == "lpi-p":
        settings["task_alignment"] = False  # CPA looks at the other tasks' prompts
    retriever = Retriever(towers, method, settings=settings)
    for task in range(3):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    for name, task in (("task 1", 1), ("task 0", 0)):
        before = retriever.version_of(name)
        retriever.forget(name)
        retriever.learn(name, pairs(task), settings=QUICK)
        assert retriever.version_of(name) == before
    assert retriever.sessions == ("task 2", "task 1", "task 0")
    assert len({retriever.version_of(name) for name in retriever.sessions}) == 3


def test_a_change_that_another_has_made_is_not_lost(towers: Backbone, tmp_path: Path) -> None:
    learned(towers, tasks=1).save_pretrained(tmp_path / "run")
    one, other = (Retriever.from_pretrained(tmp_path / "run", backbone=towers) for _ in range(2))
    one.learn("task 1", pairs(1), settings=QUICK)
    one.save_pretrained(tmp_path / "run")
    other.learn("task 2", pairs(2), settings=QUICK)
    with pytest.raises(InterplayError, match=r"has changed since .* knows task 0, task 1\): open it again"):
        other.save_pretrained(tmp_path / "run")
    assert Retriever.from_pretrained(tmp_path / "run", backbone=towers).sessions == ("task 0", "task 1")
    other.save_pretrained(tmp_path / "elsewhere")
    one.forget("task 0")
    one.save_pretrained(tmp_path / "run")
    assert Retriever.from_pretrained(tmp_path / "run", backbone=towers).sessions == ("task 1",)
    learned(towers, tasks=0).save_pretrained(
        tmp_path / "run"
    )  # of another retriever, which is meant to be replaced


def test_a_session_is_not_begun_in_the_folder_of_another(towers: Backbone, tmp_path: Path) -> None:
    retriever = Retriever(towers, "lpi-m", settings=SMALL)
    retriever.learn("task 0", pairs(0), settings=QUICK, run=tmp_path)
    with pytest.raises(InterplayError, match="holds a training run already"):
        retriever.learn("task 1", pairs(1), settings=QUICK, run=tmp_path)
    assert json.loads((tmp_path / TASK).read_text()) == {"task": "task 0"}


def test_nobody_saves_where_another_writes(towers: Backbone, tmp_path: Path) -> None:
    retriever = learned(towers, tasks=1)
    with (
        writing(tmp_path / "run"),
        ThreadPoolExecutor(1) as other,
        pytest.raises(InterplayError, match="Another process writes into run now"),
    ):
        other.submit(retriever.save_pretrained, tmp_path / "run").result()


def test_what_is_opened_while_it_is_replaced_is_whole(
    towers: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = learned(towers, tasks=1)
    retriever.save_pretrained(tmp_path)
    fill = artifacts.fill

    def late(folder: Path, module: torch.nn.Module) -> None:
        if len(retriever.sessions) == 1:  # between header and tensors
            retriever.learn("task 1", pairs(1), settings=QUICK)
            retriever.save_pretrained(tmp_path)
        fill(folder, module)

    monkeypatch.setattr(artifacts, "fill", late)
    assert Retriever.from_pretrained(tmp_path, backbone=towers).sessions == ("task 0", "task 1")


def test_a_failed_session_leaves_the_retriever_as_it_was(towers: Backbone) -> None:
    retriever = learned(towers, tasks=1)
    version = retriever.version_of("task 0")
    broken = TrainSettings(epochs=2, batch_size=8, learning_rate=1e30, progress=False, loggers=())
    with pytest.raises(InterplayError, match=r"loss became|no numbers"):
        retriever.learn("task 1", pairs(1), settings=broken)
    assert retriever.sessions == ("task 0",)
    assert retriever.version_of("task 0") == version
    retriever.learn("task 1", pairs(1), settings=QUICK)


def test_what_a_user_can_do_wrong(towers: Backbone, tmp_path: Path) -> None:
    retriever = learned(towers, tasks=1)
    with pytest.raises(InterplayError, match="learned already"):
        retriever.learn("task 0", pairs(0), settings=QUICK)
    with pytest.raises(InterplayError, match="needs a name"):
        retriever.learn(" ", pairs(0), settings=QUICK)
    with pytest.raises(InterplayError, match="task 'empty' has 0 pictures in 'train'"):
        retriever.learn("empty", pairs(1, rows=6), settings=QUICK)
    with pytest.raises(InterplayError, match="'one' has 1 picture in 'train'; a session needs at least 2"):
        retriever.learn("one", pairs(1, rows=7), settings=QUICK)
    unchecked = pairs(1).select([*range(8), 8, 12, 13])
    with pytest.raises(InterplayError, match=r"'unchecked' has 1 picture in 'validation'; .* at least 2"):
        retriever.learn("unchecked", unchecked, settings=QUICK)
    with pytest.raises(InterplayError, match="texts: number 2 is an empty text"):
        retriever.encode_texts(["cat", " "])
    with pytest.raises(InterplayError, match=r"there\.png"):
        retriever.encode_images([tmp_path / "not there.png"])
    with pytest.raises(InterplayError, match="has no prompts by which"):
        Retriever(towers, "mitp", settings={"layers": (2, 3)})
    with pytest.raises(InterplayError, match="probe for classification"):
        Retriever(towers, "linear_probe")
    with pytest.raises(InterplayError, match="holds no trained method"):
        Retriever.from_pretrained(tmp_path, backbone=towers)


def test_a_batch_of_one_pair_teaches_nothing_and_is_refused(towers: Backbone) -> None:
    alone, two = (replace(QUICK, batch_size=size) for size in (1, 2))
    retriever = Retriever(towers, "lpi-m", settings=SMALL)
    with pytest.raises(InterplayError, match="batch_size must be at least 2 for retrieval, not 1"):
        retriever.learn("task 0", pairs(0), settings=alone)
    assert retriever.sessions == ()
    retriever.learn("task 0", pairs(0), settings=two)
    Retriever(towers, "zero_shot").learn("task 0", pairs(0), settings=alone)  # trains nothing


UNCOUPLED = sorted(
    name
    for name, choice in choices().items()
    if not choice.method.traits.coupled and choice.method.traits.solver.by_gradient and name != "head_only"
)  # under a head alone there is nothing to retrieve with


@pytest.mark.bitwise
@pytest.mark.parametrize("name", UNCOUPLED)
def test_every_uncoupled_method_learns_task_after_task(name: str, towers: Backbone, tmp_path: Path) -> None:
    choice = choose(name)
    tiny = {key: value for key, value in choice.method.tiny().items() if key not in choice.preset}
    retriever = Retriever(towers, name, settings=tiny)
    bare = retriever.encode_texts(["cat 1 0", "moon"])
    for task in range(2):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    images = [picture(i, 50 * (i % 2)) for i in range(6)]
    vectors = retriever.encode_images(images)
    assert torch.isfinite(vectors).all()
    texts = retriever.encode_texts(["cat 1 0", "moon"])  # a method may leave one of the sides alone
    assert not (torch.equal(vectors, retriever.keys("image", images)) and torch.equal(texts, bare))
    retriever.save_pretrained(tmp_path)
    again = Retriever.from_pretrained(tmp_path, backbone=towers)
    assert torch.equal(again.encode_images(images), vectors)
    assert torch.equal(again.encode_texts(["cat 1 0", "moon"]), texts)
    for row in range(6):
        torch.testing.assert_close(retriever.encode_images(images[row : row + 1])[0], vectors[row])
    if retriever.method.sessions.isolates:
        retriever.forget("task 1")
        alone = Retriever(towers, name, settings=tiny)
        alone.learn("task 0", pairs(0), settings=QUICK)
        torch.testing.assert_close(retriever.encode_images(images), alone.encode_images(images))
    else:
        with pytest.raises(InterplayError, match="cannot forget 'task 1' alone"):
            retriever.forget("task 1")


def test_a_single_picked_prompt_is_no_task(towers: Backbone) -> None:
    retriever = Retriever(towers, "l2p", settings={"pool": 3, "length": 2, "picked": 1})
    retriever.learn("task 0", pairs(0), settings=QUICK)
    keys = retriever.keys("image", [picture(i, 0) for i in range(3)])
    assert set(retriever.routes("image", keys)) <= {"0", "1", "2"}
    assert retriever.encode_images([picture(i, 0) for i in range(3)]).shape == (3, retriever.joint)


@pytest.mark.bitwise
@pytest.mark.parametrize("name", ["l2p", "s-prompts-sequential", "lora", "lpi-m-sequential"])
def test_a_named_task_changes_nothing_where_tasks_share_their_prompts(name: str, towers: Backbone) -> None:
    retriever = Retriever(towers, name, settings=choose(name).method.tiny())
    for task in range(2):
        retriever.learn(f"task {task}", pairs(task), settings=QUICK)
    images = [picture(i, 50) for i in range(3)]
    given = retriever.encode_images(images, task="task 1")
    assert torch.equal(given, retriever.encode_images(images))
    assert torch.isfinite(retriever.encode_texts(["cat"], task="task 0")).all()
    with pytest.raises(InterplayError, match="no task 'task 2'"):
        retriever.encode_images(images, task="task 2")


def test_a_forgotten_task_with_a_comma_in_its_name(towers: Backbone) -> None:
    retriever = Retriever(towers, "lpi-m", settings=SMALL)
    for at, name in enumerate(("red, green", "blue")):
        retriever.learn(name, pairs(at), settings=QUICK)
    assert retriever.encode_texts(["cat"], task="red, green").shape == (1, retriever.joint)
    retriever.forget("red, green")
    with pytest.raises(InterplayError, match="no task 'red, green'"):
        retriever.encode("text", ["cat"], ["red, green"])
