"""The rules of the contract. Each takes a method and raises where it is broken; none knows any method by name."""

from __future__ import annotations

import copy
import dataclasses
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interplay.classification.model import PairClassifier
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import NoSettings
from interplay.methods.solvers import Probe, Solver
from interplay.parts.features import PairFeatures
from interplay.parts.prompt_bank import PromptBank
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import SIDES, Tower
from interplay.towers.walk import encode, encode_pair, front
from tests.contract.watching import Placing, watched
from tests.contract.world import TEXTS, Subject, pixels, towers, trained

Rule = Callable[[Subject], None]
STARTS = (3, 4, 5)


def training_changes_its_own_parameters_alone_and_all_of_them(subject: Subject) -> None:
    """Rules 1 and 2: the towers stay bit-identical, and every parameter has a gradient within a few steps.

    Where a ReLU silences a map from one start, others are tried.
    """
    before = copy.deepcopy(subject.backbone.state_dict())
    _every_parameter_gets_a_gradient(subject, [subject.method(seed) for seed in STARTS])
    thawed = [key for key, parameter in subject.backbone.named_parameters() if parameter.grad is not None]
    assert not thawed, f"a gradient reaches the frozen {thawed}"
    changed = [
        key for key, value in subject.backbone.state_dict().items() if not torch.equal(before[key], value)
    ]
    assert not changed, f"training changes the frozen {changed}"


def a_frozen_start_is_the_frozen_model_and_can_be_left(subject: Subject) -> None:
    """A fresh method that says so gives the frozen vectors, but for their lengths; another one does not.

    From that start too every parameter has a gradient within a few steps, and the vectors change.
    """
    fresh = [subject.fresh(seed) for seed in STARTS]
    bare = _sides(subject, None)
    for method in fresh:
        alike = all(_same_direction(*two) for two in zip(_sides(subject, method), bare, strict=True))
        assert alike == method.traits.starts_frozen, (
            "it does not start as the frozen model" if not alike else "it starts as the frozen model, unsaid"
        )
        if not alike or not list(method.parameters()):
            return
    _every_parameter_gets_a_gradient(subject, fresh)
    changed = zip(_sides(subject, fresh[0]), bare, strict=True)
    assert not all(_same_direction(*two) for two in changed), "training changes no vector"


def _same_direction(own: Tensor, bare: Tensor) -> bool:
    """Whether vectors are the same to 1e-6 when their lengths are 1."""
    first, second = (nn.functional.normalize(vectors, dim=-1) for vectors in (own, bare))
    return torch.allclose(first, second, atol=1e-6, rtol=0)


def _every_parameter_gets_a_gradient(subject: Subject, starts: list[Method]) -> None:
    """Within a few steps from one of the starts at least: a ReLU may silence a map from some."""
    dead: set[str] | None = None
    for method in starts:
        largest = trained(subject.headed(method).train(), subject)
        silent = {key for key, value in largest.items() if value == 0}
        dead = silent if dead is None else dead & silent
        if not dead:
            break
    assert not dead, f"no gradient reaches {sorted(dead or ())}"


def every_parameter_and_every_prompt_acts(subject: Subject) -> None:
    """Rule 2: spoiling a parameter, one layer of the free prompts, or a prompt where it is placed changes the output.

    Prompts are not looked for by their names: they are the free parameters (of no layer of PyTorch's, of no tower)
    that are as wide as a tower, layer by layer or token by token; what the set of a session gives for each layer; and
    whatever is placed on a frozen tower in the course of the walk. A method without parameters has to be the bare
    towers.
    """
    model = subject.classifier()
    method = model.method
    if not list(method.parameters()):
        for own, bare in zip(_sides(subject, method), _sides(subject, None), strict=True):
            assert torch.equal(own, bare), "without parameters it must leave the towers alone"
        return
    trained(model.train(), subject)
    model.eval()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            assert _acts(model, subject, parameter, parameter, loss=True), f"{name} does nothing"
        for name, prompts in _free_prompts(subject, method):
            for at in range(len(prompts)):
                assert _acts(model, subject, prompts, prompts[at]), f"{name}[{at}] does nothing"
        _every_layer_of_a_set_acts(model, subject)
        _every_placed_prompt_acts(model, subject)


def _sides(subject: Subject, method: Method | None) -> tuple[Tensor, Tensor]:
    vectors = subject.walk(method)
    return vectors.image, vectors.text


def _outputs(model: PairClassifier, subject: Subject) -> Tensor:
    """The logits of all pairs."""
    logits: Tensor = model(subject.backbone, subject.batch())
    return logits


def _acts(
    model: PairClassifier, subject: Subject, whole: Tensor, part: Tensor, *, loss: bool = False
) -> bool:
    """Whether noise in place of a part of a parameter changes the logits, or with `loss` what is minimised."""

    def seen() -> Tensor:
        logits = _outputs(model, subject)
        if not loss:
            return logits
        return torch.cat([logits.flatten(), model.training_loss(subject.backbone, subject.batch())[None]])

    before, kept = seen(), whole.clone()
    part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(7)))
    after = seen()
    whole.copy_(kept)
    return not torch.equal(before, after)


def _free_prompts(subject: Subject, method: Method) -> Iterator[tuple[str, Tensor]]:
    """Parameters that stand for tokens of a tower: as wide as it, and no weights of a layer or of a tower's copy."""
    widths = {subject.backbone.shape.side(side).width for side in SIDES}
    weights: set[int] = set()
    for module in method.modules():
        layer = type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.ParameterDict)
        if isinstance(module, Tower):
            weights |= {id(parameter) for parameter in module.parameters()}
        elif layer:
            weights |= {id(parameter) for parameter in module.parameters(recurse=False)}
    for name, parameter in method.named_parameters():
        if id(parameter) not in weights and parameter.dim() > 1 and parameter.shape[-1] in widths:
            yield name, parameter


def _every_layer_of_a_set_acts(model: PairClassifier, subject: Subject) -> None:
    """Spoil what the newest set of a bank gives for one layer, on each side that it prompts."""
    for bank in model.method.modules():
        if isinstance(bank, PromptBank):
            _every_layer_of_its_newest_set_acts(bank, model, subject)


def _every_layer_of_its_newest_set_acts(bank: PromptBank, model: PairClassifier, subject: Subject) -> None:
    reference = _outputs(model, subject)
    for side in SIDES:
        if model.method.first_layer(side) == subject.backbone.shape.side(side).depth:
            continue
        for at in range(len(bank.newest(side))):

            def spoiled(
                module: nn.Module, asked: tuple[str], given: Tensor, side: str = side, at: int = at
            ) -> Tensor:
                if asked[0] != side:
                    return given
                changed = given.clone()
                changed[at] = torch.randn(given[at].shape, generator=torch.Generator().manual_seed(at))
                return changed

            with bank.newest.register_forward_hook(spoiled):
                changed = _outputs(model, subject)
            assert not torch.equal(changed, reference), f"the {side} prompts of layer {at} do nothing"


def _every_placed_prompt_acts(model: PairClassifier, subject: Subject) -> None:
    """Spoil one prompt after the other where it is placed on a frozen tower."""
    counting = Placing(subject.backbone)
    with counting():
        reference = _outputs(model, subject)
    for at in range(counting.count):
        with Placing(subject.backbone, at)():
            changed = _outputs(model, subject)
        assert not torch.equal(changed, reference), f"placed prompt {at} of {counting.count} does nothing"


def save_and_load_are_exact_and_strict(subject: Subject) -> None:
    """Rule 3: loaded into a method that started elsewhere, it gives the same bit for bit; nothing may be missing."""
    model = subject.classifier()
    with tempfile.TemporaryDirectory() as folder:
        save_file(model.state_dict(), Path(folder) / "model.safetensors")
        state = load_file(Path(folder) / "model.safetensors")
    fresh = subject.classifier(seed=4)
    fresh.load_state_dict(state, strict=True)
    same = torch.equal(_outputs(fresh, subject), _outputs(model, subject))
    assert same, "what was loaded gives something else: there is state outside the checkpoint"
    with pytest.raises(RuntimeError, match="Unexpected key"):
        fresh.load_state_dict({**state, "stranger": torch.zeros(1)}, strict=True)
    for left_out in state:
        missing = fresh.load_state_dict(
            {key: state[key] for key in state if key != left_out}, strict=False
        ).missing_keys
        assert missing == [left_out], f"{left_out} may be missing unnoticed"


def a_prediction_does_not_depend_on_batch_mates_or_padding(subject: Subject) -> None:
    """Rule 5, and that the same input gives the same twice."""
    model = subject.classifier()
    together = _outputs(model, subject)
    assert torch.equal(together, _outputs(model, subject)), (
        "the same input gives something else the second time"
    )
    for row in range(len(TEXTS)):
        alone = model(subject.backbone, subject.batch(slice(row, row + 1)))
        _close(alone[0], together[row], "it depends on the batch mates")
    ids = subject.backbone.tokenize(TEXTS)
    padded = nn.functional.pad(ids, (0, 9), value=subject.backbone.text.shape.end_token)
    longer = model(subject.backbone, PairBatch(pixels(), padded))
    _close(longer, together, "it depends on the padding")


def _close(found: Tensor, wanted: Tensor, otherwise: str) -> None:
    assert torch.allclose(found, wanted, atol=2e-5, rtol=1e-4), otherwise


def it_works_on_unequal_towers_and_single_samples(subject: Subject) -> None:
    """Rule 6: predicting and training."""
    for depths in ((5, 4), (4, 5), (8, 4)):
        other = Subject(subject.choice, towers(*depths))
        model, batch = other.classifier(), other.batch(slice(1))
        logits = model(other.backbone, batch)
        assert logits.shape == (1, 3)
        assert torch.isfinite(logits).all()
        assert torch.isfinite(model.train().training_loss(other.backbone, batch))


def the_parameter_count_equals_its_formula(subject: Subject) -> None:
    """Rule 6: on every published geometry."""
    choice, settings = subject.choice, subject.choice.settings()
    for shape in PRESETS.values():
        with torch.device("meta"):
            method = choice.method(shape, settings)
        counted = sum(parameter.numel() for parameter in method.parameters())
        assert counted == choice.method.parameter_count(shape, settings), "the formula counts otherwise"


def one_side_equals_the_pair_or_is_refused(subject: Subject) -> None:
    """Rule 7."""
    method = subject.method()
    routes, pair = subject.routes(method), subject.walk(method)
    ids = subject.backbone.tokenize(TEXTS)
    if method.traits.coupled:
        with pytest.raises(InterplayError, match="needs pairs"):
            encode(subject.backbone.image, "image", pixels(), method)
        return
    image = encode(subject.backbone.image, "image", pixels(), method, route=routes.image)
    _close(image, pair.image, "images alone are encoded otherwise than in pairs")
    text = encode(subject.backbone.text, "text", ids, method, route=routes.text)
    _close(text, pair.text, "texts alone are encoded otherwise than in pairs")


def starting_behind_the_front_layers_is_the_whole_walk(subject: Subject) -> None:
    """What is before the first layer can be computed once and kept: the result is the same bit for bit."""
    method = subject.method()
    ids = subject.backbone.tokenize(TEXTS)
    whole = subject.walk(method)
    starts = [
        front(subject.backbone.tower(side), inputs, min(method.first_layer(side), 3))
        if method.first_layer(side)
        else inputs  # a method that is at work from the first layer on may be at work in the embedding
        for side, inputs in zip(SIDES, (pixels(), ids), strict=True)
    ]
    behind = encode_pair(subject.backbone, starts[0], starts[1], method, routes=subject.routes(method))
    assert torch.equal(whole.image, behind.image), "images that start behind the front come out otherwise"
    assert torch.equal(whole.text, behind.text), "texts that start behind the front come out otherwise"


def nothing_happens_in_front_of_the_first_layer(subject: Subject) -> None:
    """Before it no tower computes for a gradient and its tokens are the bare ones; after it they are not.

    Read off the frozen towers while the method runs. A side on which the method leaves every layer alone runs all of
    its layers, once, in order and bare; where a method runs towers of its own the frozen ones may stay idle.
    """
    method = subject.method()
    with watched(subject.backbone) as bare_calls:
        subject.walk(None)
    bare = {(call.side, call.layer): call.given.x for call in bare_calls}
    routes = subject.routes(method)
    with watched(subject.backbone) as calls:
        encode_pair(subject.backbone, pixels(), subject.backbone.tokenize(TEXTS), method, routes=routes)
    for side in SIDES:
        first = method.first_layer(side)
        own = [call for call in calls if call.side == side]
        in_front = [call for call in own if call.layer < first]
        assert [call.layer for call in in_front] == list(range(first)), (
            f"the {side} layers in front: once, in order"
        )
        for call in in_front:
            at = f"{side} layer {call.layer} of {first} in front"
            assert not call.result.x.requires_grad, f"{at} is computed for a gradient"
            assert not call.own_block, f"{at} is not the frozen one"
            assert call.given.prompts == 0, f"{at} sees prompts"
            assert call.given.next.prefix is None, f"{at} sees a prefix"
            assert call.given.next.aside is None, f"{at} sees prompts aside"
            assert torch.equal(call.given.x, bare[side, call.layer]), f"{at} does not see the bare tokens"
        there = [call for call in own if call.layer == first]
        for call in there[:1]:
            given = call.given
            changed = (
                call.own_block or given.prompts > 0 or (given.next.prefix, given.next.aside) != (None, None)
            )
            behind = [other.given.held for other in own if other.layer == first + 1]
            changed = changed or any(held is not None for held in behind)  # it is read there, for later
            assert changed or not torch.equal(call.given.x, bare[side, first]), (
                f"nothing happens in front of {side} layer {first}, which is said to be the first"
            )


def it_says_what_it_is(subject: Subject) -> None:
    """Name, docstrings, settings, variants and flags fit each other."""
    choice, method = subject.choice, subject.choice.method
    file = method.__module__.rsplit(".", 1)[-1]
    assert subject.method().name == file
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", choice.name), f"{choice.name} is no name for the command line"
    _is_documented(method)
    fields = {field.name: field for field in dataclasses.fields(method.Settings)}
    for name in fields:
        assert re.search(rf"\b{name}\b[^:]*:", method.Settings.__doc__ or ""), (
            f"the setting {name} is not documented"
        )
    assert set(method.Settings.ranges) <= set(fields), "there is a range for no setting"
    assert set(choice.preset) <= set(fields), "there is a variant of no setting"
    built = subject.method()
    solver = built.traits.solver
    assert isinstance(solver, Solver)
    assert solver == method.traits.solver, "a solver hangs on no settings"
    if isinstance(solver, Probe):
        read = solver.head({}, built.settings)["features"]
        assert read in get_args(PairFeatures), "features of the pair are for the logistic solver"
    if not solver.by_gradient:
        assert not list(built.parameters()), f"what is trained {solver.words} trains no parameters"
    room = built.traits.reserve + max(len(row) for row in subject.backbone.tokenize(["cat"]).tolist())
    assert room <= subject.backbone.shape.text.positions, "it leaves no room for words"
    full = subject.backbone.tokenize(["word " * 40], reserve=built.traits.reserve).expand(len(TEXTS), -1)
    encode_pair(subject.backbone, pixels(), full, built, routes=subject.routes(built))


def _is_documented(method: type[Method]) -> None:
    """Everything public that a method defines has a docstring of its own."""
    assert method.__doc__, f"{method.__name__} has no docstring"
    assert method.Settings is NoSettings or method.Settings.__doc__
    for name, member in vars(method).items():
        function = member.__func__ if isinstance(member, classmethod) else member
        function = function.fget if isinstance(function, property) else function
        if not name.startswith("_") and callable(function) and not isinstance(function, type):
            assert function.__doc__, f"{method.__name__}.{name} has no docstring"


BITWISE: tuple[Rule, ...] = (
    save_and_load_are_exact_and_strict,
    starting_behind_the_front_layers_is_the_whole_walk,
)
"""Rules that promise equality bit for bit."""
RULES: tuple[Rule, ...] = (
    training_changes_its_own_parameters_alone_and_all_of_them,
    a_frozen_start_is_the_frozen_model_and_can_be_left,
    every_parameter_and_every_prompt_acts,
    a_prediction_does_not_depend_on_batch_mates_or_padding,
    it_works_on_unequal_towers_and_single_samples,
    the_parameter_count_equals_its_formula,
    one_side_equals_the_pair_or_is_refused,
    nothing_happens_in_front_of_the_first_layer,
    it_says_what_it_is,
    *BITWISE,
)
