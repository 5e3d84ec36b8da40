"""Grids: what is merged over what, what is refused, and what a cell is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from interplay.comparison.grid import GridCell, make_grid, read_grid, slug
from interplay.errors import InterplayError

VALUES = {
    "seeds": [0, 1],
    "head": {"kind": "pair", "start": "probe"},
    "training": {"epochs": 5, "batch_size": 8},
    "rows": {"mitp": {"settings": {"length": 2}}, "small": {"method": "mitp-small"}, "text_probe": {}},
    "data": {
        "openmoji/subgroup": {},
        "openmoji/relation": {
            "training": {"epochs": 7},
            "head": {"start": "zero"},
            "rows": {"mitp": {"settings": {"layers": [4]}, "training": {"epochs": 9}}},
        },
    },
}


def find(name: str) -> GridCell:
    return next(cell for cell in make_grid(VALUES, "test").cells if cell.name == name)


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("rows: [mitp]\ndata: [openmoji/subgroup]\ntraining: {learning_rate: 1e-3}\n")
    assert read_grid(file).cells[0].training["learning_rate"] == 0.001


def test_special_values_win_over_general_ones() -> None:
    cell = find("mitp@openmoji/relation#1")
    assert cell.settings == {"length": 2, "layers": [4]}
    assert cell.training == {"epochs": 9, "batch_size": 8}
    assert cell.head == {"kind": "pair", "start": "zero"}
    assert find("small@openmoji/relation#0").training["epochs"] == 7
    assert find("small@openmoji/subgroup#0").training["epochs"] == 5


def test_rows_come_seed_by_seed_and_what_needs_no_seed_once() -> None:
    names = [cell.name for cell in make_grid(VALUES, "test").cells]
    assert len(names) == len(set(names)) == 2 * 2 * 2 + 2
    assert names.index("small@openmoji/relation#0") < names.index("mitp@openmoji/subgroup#1")
    assert "text_probe@openmoji/subgroup#1" not in names
    shares = make_grid({**VALUES, "shares": [0.5, 1]}, "test")
    assert "text_probe@openmoji/subgroup@50%#1" in [cell.name for cell in shares.cells]


def test_only_narrows_by_sort_and_widens_within_one() -> None:
    grid = make_grid(VALUES, "test")
    assert [c.name for c in grid.only(["mitp", "openmoji/relation"]).cells] == [
        "mitp@openmoji/relation#0",
        "mitp@openmoji/relation#1",
    ]
    assert len(grid.only(["mitp", "small", "#0"]).cells) == 4
    assert [c.name for c in grid.only(["text_probe@openmoji/subgroup#0"]).cells] == [
        "text_probe@openmoji/subgroup#0"
    ]
    with pytest.raises(InterplayError, match="Did you mean 'mitp'"):
        grid.only(["mipt"])
    with pytest.raises(InterplayError, match="No cell is all of"):
        grid.only(["text_probe", "#1"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"row": ["mitp"]}, "Did you mean 'rows'"),
        ({"seeds": 3}, "'seeds' takes a list of numbers, not 3"),
        ({"seeds": None}, "'seeds' takes a list of numbers"),
        ({"shares": ["10%"]}, "'shares' takes a list of numbers"),
        ({"random_weights": "no"}, "'random_weights' is true or false"),
        ({"backbone": None}, "'backbone' takes a name, not None"),
        ({"multi_loss": "zplr"}, "Did you mean 'zlpr'"),
        ({"training": {"seed": 7}}, "seeds stand under 'seeds'"),
        ({"training": {"devices": 2}}, "every cell trains on one device"),
        ({"rows": [{"mitp": {}}]}, "a list of names, or names with their settings"),
        ({"rows": ["mitp", "mitp"]}, "mitp stands there twice"),
        ({"data": {"openmoji/subgroup": {"rows": {"mitp": {"method": "epic"}}}}}, "no key called 'method'"),
        ({"rows": {"mitp": {"setting": {}}}}, "Did you mean 'settings'"),
        ({"rows": {"mipt": {}}, "data": ["openmoji/subgroup"]}, "Did you mean 'mitp'"),
        (
            {"rows": {"mitp": {"settings": {"lenght": 2}}}},
            "mitp@openmoji/subgroup#0: .*Did you mean 'length'",
        ),
        ({"training": {"epochs": 0}}, "epochs must be at least 1"),
        ({"training": {"epoch": 1}}, "Did you mean 'epochs'"),
        ({"shares": [0]}, "share"),
        ({"rows": 3}, "a list of names"),
        ({"rows": {"mitp": {"settings": 3}}}, "takes settings"),
        ({"seeds": []}, "no cell"),
        ({"data": {"openmoji/subgroup": {"rows": {"epic": {}}}}}, "no row in test called 'epic'"),
    ],
)
def test_mistakes_are_named_before_anything_runs(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InterplayError, match=sentence):
        make_grid({**VALUES, **change}, "test")


def test_a_file_that_is_no_grid(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="No such file"):
        read_grid(tmp_path / "absent.yaml")
    path = tmp_path / "grid.yaml"
    path.write_text("rows: [")
    with pytest.raises(InterplayError, match="as YAML"):
        read_grid(path)
    path.write_text("mitp")
    with pytest.raises(InterplayError, match="'rows' and 'data'"):
        read_grid(path)


def test_the_committed_grid_can_be_built() -> None:
    grid = read_grid(Path(__file__).parents[2] / "recipes" / "openmoji.yaml")
    assert {cell.data for cell in grid.cells} == {
        "openmoji/relation",
        "openmoji/subgroup",
        "openmoji/attributes",
    }


def test_no_two_names_share_a_file() -> None:
    names = [
        "openmoji/relation",
        "openmoji-relation",
        "a/b/pairs.csv",
        "a/c/pairs.csv",
        "mitp layers=4",
        "x" * 99,
    ]
    slugs = [slug(name) for name in [*names, "x" * 100]]
    assert all("/" not in part and len(part) <= 60 for part in slugs)
    assert slugs[0] == "openmoji-relation"
    assert slug("mitp@scenes/bind#0") == "mitp-scenes-bind-0"
    assert len(set(slugs[2:])) == len(slugs[2:])


def test_rows_of_a_data_set_may_be_named_alone() -> None:
    for rows in (["mitp"], {"mitp": None}):
        plain = make_grid({**VALUES, "data": {"openmoji/subgroup": {"rows": rows}}}, "test")
        assert plain.cells == make_grid({**VALUES, "data": ["openmoji/subgroup"]}, "test").cells
