"""What a column of metadata holds, against the same rules written cell by cell."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from interplay.cli.item_metadata import column_values

FORMS = (
    (re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII), int),
    (re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,30})?([eE][+-]?\d{1,2})?", re.ASCII), float),
    (re.compile(r"true|false", re.IGNORECASE), lambda cell: cell.lower() == "true"),
)
NO_VALUES = ("", "n/a", "na", "nan", "null", "none", "-", "?")


def plainly_typed(cells: list[str]) -> list[object]:
    """The rules of a column, cell by cell."""
    plain = [cell.strip() for cell in cells]
    values = [cell for cell in plain if cell.lower() not in NO_VALUES]
    for form, kind in FORMS:
        if values and all(
            form.fullmatch(cell) and (kind is not int or -(2**63) <= int(cell) < 2**63) for cell in values
        ):
            return [kind(cell) if cell in values else None for cell in plain]
    return [cell if stripped else None for cell, stripped in zip(cells, plain, strict=True)]


NUMBERS = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{0,4})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
WORDS = st.sampled_from(
    (*NO_VALUES, "NaN", " 1 ", "007", "+1", ".5", "inf", "1_0", "TRUE", "false", "٣", "1 2", "x")
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.lists(st.one_of(NUMBERS, WORDS), min_size=1, max_size=4),
        st.lists(
            st.one_of(st.floats(allow_nan=False, width=64).map(repr), st.sampled_from(NO_VALUES)), min_size=1
        ),
        st.lists(st.sampled_from(("true", "FALSE", "tRuE", "n/a")), min_size=1, max_size=4),
    )
)
def test_a_column_is_typed_as_cell_by_cell(cells: list[str]) -> None:
    values, _ = column_values(cells)
    found, wanted = [values.get(at) for at in range(len(cells))], plainly_typed(cells)
    assert [(type(one), one) for one in found] == [(type(one), one) for one in wanted]
