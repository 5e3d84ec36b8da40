"""Swin and BERT under the walk against `transformers`, and where they place prompts against loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.towers.bert import BertTower
from interplay.towers.skeleton import skeleton
from interplay.towers.swin import SwinBlock, corner, map_of, strangers, windows_of
from interplay.towers.tokens import Side, Tokens, Tower
from interplay.towers.walk import encode, through_layers
from tests.grounding.toy import SHAPE, library_bert, library_swin, phrases, towers

SIZES = [(56, 90), (96, 128), (64, 64), (33, 41), (32, 224), (4, 4), (1, 1), (130, 70), (112, 112)]


@pytest.mark.parametrize("size", SIZES)
def test_swin_equals_transformers(size: tuple[int, int]) -> None:
    library, tower = library_swin(SHAPE.image)
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        wanted = library(pixels).feature_maps
        tokens = tower.embed(pixels)
        for i in range(SHAPE.image.depth):
            tokens = tower.layer(i, tokens)
    assert len(tokens.maps) == 4
    for ours, theirs in zip(tokens.maps[1:], wanted[1:], strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    norm = library.hidden_states_norms["stage1"]  # GLIP leaves out the norm of the first stage
    first = norm(tokens.maps[0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(first, wanted[0], atol=1e-5, rtol=0)


def test_swin_tiny_s_whole_geometry_equals_transformers() -> None:
    shape = replace(SHAPE.image, width=96, depth=12, heads=3, hidden=384, stages=(2, 2, 6, 2))
    library, tower = library_swin(shape)
    assert sum(parameter.numel() for parameter in tower.parameters()) == 27_520_506
    pixels = torch.randn(1, 3, 60, 93)
    with torch.no_grad():
        wanted = library(pixels).feature_maps
        ours = through(tower, tower.embed(pixels)).maps
    for stage in (1, 2, 3):
        torch.testing.assert_close(ours[stage], wanted[stage], atol=1e-5, rtol=1e-5)


def through(tower: Tower, tokens: Tokens) -> Tokens:
    for i in range(tower.shape.depth):
        tokens = tower.layer(i, tokens)
    return tokens


def test_windows_are_cut_row_by_row_and_put_together_again() -> None:
    x = torch.arange(2 * 6 * 9 * 2).view(2, 6, 9, 2)
    windows = windows_of(x, 3)
    assert windows.shape == (2, 6, 9, 2)
    for sample in range(2):
        for window in range(6):
            down, right = divmod(window, 3)
            part = x[sample, 3 * down : 3 * down + 3, 3 * right : 3 * right + 3]
            assert torch.equal(windows[sample, window], part.reshape(9, 2))
    assert torch.equal(map_of(windows, 6, 9), x)


def test_shifted_windows_hide_what_the_shift_brought_together() -> None:
    height, width, window, shift = 8, 12, 4, 2
    hidden = strangers(height, width, window, shift)

    def region(at: int, edge: int) -> int:  # of a place after the roll
        if at < edge - window:
            return 0
        return 1 if at < edge - shift else 2

    for number in range(6):
        down, right = divmod(number, 3)
        places = [(4 * down + y, 4 * right + x) for y in range(4) for x in range(4)]
        names = [(region(y, height), region(x, width)) for y, x in places]
        for q in range(16):
            for k in range(16):
                assert hidden[number, q, k] == (0.0 if names[q] == names[k] else -100.0)


def test_bytes_are_normalised_by_mean_and_deviation_of_red_green_and_blue() -> None:
    tower = towers().image
    raw = torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8)
    ready = torch.empty(2, 3, 32, 40)
    for channel, (mean, deviation) in enumerate(((123.675, 58.395), (116.28, 57.12), (103.53, 57.375))):
        ready[:, channel] = (raw[:, channel].float() - mean) / deviation
    torch.testing.assert_close(tower.embed(raw).x, tower.embed(ready).x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[3], [7, 2, 32, 12], [5, 5]])
def test_bert_equals_transformers(lengths: list[int]) -> None:
    library, tower = library_bert(SHAPE.text)
    ids = phrases(lengths)
    real = ids != 0
    with torch.no_grad():
        wanted = library(ids, attention_mask=real.long(), output_hidden_states=True).hidden_states
        tokens = tower.embed(ids)
        for i in range(SHAPE.text.depth):
            torch.testing.assert_close(tokens.x[real], wanted[i][real], atol=1e-5, rtol=0)
            tokens = tower.layer(i, tokens)
        torch.testing.assert_close(tokens.x[real], wanted[-1][real], atol=1e-5, rtol=0)
        assert torch.equal(tower.real(tokens), real)
        padded = torch.cat([ids, ids.new_zeros(len(ids), 32 - ids.shape[1])], dim=1)
        longer = through(tower, tower.embed(padded)).x[:, : ids.shape[1]]
        torch.testing.assert_close(tokens.x[real], longer[real], atol=1e-5, rtol=0)


def test_bert_base_has_the_parameters_of_glip_s_text_side() -> None:
    shape = replace(SHAPE.text, width=768, depth=12, heads=12, hidden=3072, vocabulary=30522, positions=512)
    with torch.device("meta"):
        tower = BertTower(shape)
    assert sum(parameter.numel() for parameter in tower.parameters()) == 108_891_648


def test_the_walk_takes_both_in_lock_step_to_what_each_is_alone() -> None:
    pair, pixels, ids = towers(), torch.randn(2, 3, 96, 128), phrases([4, 9])
    assert pair.shape.image.depth == pair.shape.text.depth
    found = through_layers(pair, pixels, ids)
    assert torch.equal(found.image.maps[3], through(pair.image, pair.image.embed(pixels)).maps[3])
    assert [tuple(level.shape[1:]) for level in found.image.maps] == [
        (24, 24, 32),
        (48, 12, 16),
        (96, 6, 8),
        (192, 3, 4),
    ]
    assert torch.equal(found.text.x, through(pair.text, pair.text.embed(ids)).x)


GRIDS = [(1, 1, 1), (2, 1, 2), (4, 2, 2), (6, 2, 3), (7, 1, 7), (8, 2, 4), (16, 4, 4), (18, 3, 6)]


@pytest.mark.parametrize(("places", "height", "width"), GRIDS)
def test_the_corner_is_as_even_as_it_can_be(places: int, height: int, width: int) -> None:
    assert corner(places) == (height, width)


def test_prompts_are_added_onto_the_corner_at_every_stage() -> None:
    pair = towers()
    torch.manual_seed(2)
    tokens = pair.image.embed(torch.randn(2, 3, 96, 128))
    for i in range(SHAPE.image.depth):
        channels = SHAPE.image.width_at(i)
        each = channels // 24
        down, right = ((4, 4), (2, 4), (2, 2), (1, 2))[SHAPE.image.stage(i)]
        prompt = torch.randn(2, 16, 24)
        put = pair.image.put(replace(tokens, prompts=0), prompt)
        assert put.size is not None
        before = tokens.x.view(2, *put.size, channels)
        after = put.x.view(2, *put.size, channels)
        for y in range(put.size[0]):
            for x in range(put.size[1]):
                wanted = before[:, y, x]
                if y < down and x < right:
                    at = y * right + x
                    wanted = wanted + torch.cat([prompt[:, at * each + j] for j in range(each)], dim=1)
                assert torch.equal(after[:, y, x], wanted), (i, y, x)
        assert torch.equal(pair.image.slots(put).reshape(2, -1), after[:, :down, :right].reshape(2, -1))
        again = pair.image.put(put, prompt)
        assert torch.equal(pair.image.slots(again), prompt)
        assert torch.equal(again.x.view_as(after)[:, down:], after[:, down:])
        tokens = pair.image.layer(i, again)
        assert tokens.prompts == 16


@pytest.mark.parametrize("lengths", [[20, 4], [3, 5]])
def test_prompts_are_added_onto_the_first_rows_of_bert(lengths: list[int]) -> None:
    tower, ids, prompt = towers().text, phrases(lengths), torch.randn(16, 64)
    whole = torch.cat([ids, ids.new_zeros(2, max(0, 16 - ids.shape[1]))], dim=1)
    bare = tower.embed(whole)
    tokens = tower.put(tower.embed(ids), prompt)
    assert tokens.x.shape == bare.x.shape
    for row in range(tokens.x.shape[1]):
        wanted = bare.x[:, row] + prompt[row] if row < 16 else bare.x[:, row]
        assert torch.equal(tokens.x[:, row], wanted)
    assert tokens.lengths is not None
    assert tokens.lengths.tolist() == lengths
    assert torch.equal(tower.slots(tower.put(tokens, prompt)), prompt.expand(2, -1, -1))
    beyond = torch.cat([torch.zeros(5, 64), prompt[5:]])  # onto padding alone, which no token looks at
    clean, padded = tower.layer(0, tower.embed(ids)), tower.layer(0, tower.put(tower.embed(ids), beyond))
    row = lengths.index(min(lengths))
    real = slice(0, lengths[row])
    torch.testing.assert_close(clean.x[row, real], padded.x[row, real], atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_prefix_of_keys_and_values_is_read_by_every_row(side: Side) -> None:
    pair = towers()
    inputs: Tensor = torch.randn(2, 3, 40, 70) if side == "image" else phrases([9, 4])
    tower = pair.image if side == "image" else pair.text
    width = tower.shape.width
    keys, values = torch.randn(4, width), torch.randn(4, width)
    tokens = tower.embed(inputs)
    if side == "image":
        for i in range(3):  # into the second stage, where two prompts are one key
            tokens = tower.layer(i, tokens)
    i = 3 if side == "image" else 0
    plain = tower.layer(i, tokens)
    prefixed = tower.layer(i, tokens.for_next(prefix=(keys, values)))
    assert not torch.isclose(plain.x, prefixed.x).all(dim=-1).any()
    assert prefixed.next.prefix is None
    each = tower.layer(i, tokens.for_next(prefix=(keys.expand(2, -1, -1), values.expand(2, -1, -1))))
    assert torch.equal(each.x, prefixed.x)


def test_what_towers_without_slots_cannot_do_is_refused_in_one_sentence() -> None:
    pair = towers()
    tokens = pair.image.embed(torch.randn(1, 3, 64, 64))
    with pytest.raises(InterplayError, match="start = paper"):
        pair.image.layer(0, tokens.for_next(gate=torch.zeros(2)))
    with pytest.raises(InterplayError, match="no room for 16 prompts"):
        pair.image.put(pair.image.embed(torch.randn(1, 3, 8, 8)), torch.zeros(16, 24))
    third = replace(tokens, x=torch.zeros(1, 64, 96), size=(8, 8))
    with pytest.raises(InterplayError, match="multiple of 4, not 6"):
        pair.image.put(third, torch.zeros(6, 24))
    text = pair.text.embed(phrases([5]))
    with pytest.raises(InterplayError, match="start = paper"):
        pair.text.layer(0, text.for_next(aside=torch.zeros(2, 64)))
    with pytest.raises(InterplayError, match="32 positions"):
        pair.text.embed(torch.ones(1, 33, dtype=torch.long))
    for side, tower in (("image", pair.image), ("text", pair.text)):
        inputs = torch.randn(1, 3, 32, 32) if side == "image" else phrases([5])
        with pytest.raises(InterplayError, match="no vector of a whole input"):
            encode(tower, "image" if side == "image" else "text", inputs)
    with pytest.raises(InterplayError, match="between words"):
        pair.text.embed(phrases([5]), context=torch.zeros(2, 64), split=1)


def test_layers_without_weights_are_of_the_tower_s_own_kind() -> None:
    layer = skeleton(SHAPE.image, 5)
    assert isinstance(layer, SwinBlock)
    assert (layer.heads, layer.shift, layer.out.in_features) == (8, 3, 96)
    assert skeleton(SHAPE.text, 5).get_submodule("out").in_features == 64
