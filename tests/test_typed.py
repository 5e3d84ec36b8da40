"""What a value may be: as JSON and YAML have it, nothing is turned into something else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_type_hints

import pytest

from interplay.errors import InterplayError
from interplay.methods.registry import choices, choose
from interplay.parts.heads import HeadSettings
from interplay.settings import make_settings
from interplay.training.settings import TrainSettings
from interplay.typed import expect, fits

LARGEST = 2**63 - 1
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -LARGEST, LARGEST + 1, 10**5000, 1.0, math.nan, "a", "", "1", b"a"),
    *((), (1,), (1, True), (1, LARGEST + 1), ("a", "b"), (1.5, 2), [1], {}, {"a": 1}, {"a": "b"}),
)
FITTING: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (Any, VALUES),
    (int, (0, -LARGEST)),
    (float, (0, -LARGEST, 1.0, math.nan)),
    (bool, (True,)),
    (str, ("a", "", "1")),
    (type(None), (None,)),
    (str | None, (None, "a", "", "1")),
    (int | None, (None, 0, -LARGEST)),
    (Literal["a", "b"], ("a",)),
    (int | Literal["a"], (0, -LARGEST, "a")),
    (tuple[int, ...], ((), (1,))),
    (tuple[float, ...], ((), (1,), (1.5, 2))),
    (tuple[str, ...] | Literal["a"], ("a", (), ("a", "b"))),
    (tuple[Literal["a", "b"], ...], ((), ("a", "b"))),
    (Mapping, ({}, {"a": 1}, {"a": "b"})),
    (Mapping[str, str], ({}, {"a": "b"})),
    (Mapping[str, float] | None, (None, {}, {"a": 1})),
)


@pytest.mark.parametrize(("kind", "fitting"), FITTING, ids=[str(kind) for kind, _ in FITTING])
def test_what_a_type_takes(kind: Any, fitting: tuple[Any, ...]) -> None:
    taken = [(type(value), value) for value in VALUES if fits(value, kind)]
    wanted = [(type(value), value) for value in fitting]
    assert taken == [one for one in ((type(value), value) for value in VALUES) if one in wanted]
    assert all(one in taken for one in wanted)


def test_every_default_is_of_its_field_s_type() -> None:
    """`check_fields` does not look at them."""
    kinds = [TrainSettings, HeadSettings, *(choose(name).method.Settings for name in choices())]
    for kind in kinds:
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                assert fits(field.default, hints[field.name]), (kind, field.name)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"epohcs": 1}, "setting of training called 'epohcs'. Did you mean 'epochs'?"),
        ({"epochs": "many"}, "'epochs' of training cannot be 'many'; it takes a whole number"),
        ({"epochs": True}, "'epochs' of training cannot be True; it takes a whole number"),
        ({"epochs": 2**64}, "cannot be 18446744073709551616; it takes a whole number"),
        ({"learning_rate": "1"}, "cannot be '1'; it takes a number"),
        ({"loggers": ["csv", 1]}, "cannot be ('csv', 1); it takes a list, each a text"),
        ({"optimizer": "sgd"}, "cannot be 'sgd'; it takes one of adam, adamw"),
    ],
)
def test_settings_that_do_not_fit_are_told_in_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InterplayError) as caught:
        make_settings(TrainSettings, values, "training")
    assert told in str(caught.value)


def test_a_list_is_taken_for_a_tuple_and_a_whole_number_stays_one() -> None:
    made = make_settings(TrainSettings, {"learning_rate": 1, "loggers": ["csv"]}, "training")
    assert (made.loggers, type(made.learning_rate)) == (("csv",), int)
    with pytest.raises(
        InterplayError, match="batch_size takes a whole number, not something of the type str"
    ):
        expect("batch_size", "8", int)
    with pytest.raises(InterplayError, match="batch_size takes a whole number, not one of 301 bits"):
        expect("batch_size", 2**300, int)
