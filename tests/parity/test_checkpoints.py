"""Checkpoints as they are published: from files and strings on, vectors equal those of `transformers` alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipConfig,
)

from interplay import InterplayError, load_backbone
from interplay.data.image_cache import ImageCache
from interplay.data.readers import load
from interplay.encoding.batches import EncodedTable
from interplay.towers.backbone import bundled_folder, from_clip, shape_of
from interplay.towers.checkpoint import read_checkpoint
from interplay.towers.preprocessing import to_square
from tests.parity.checkpoints import (
    TEXTS,
    assert_equal,
    edit_config,
    first_generation,
    preprocessor,
    random_weights,
    write_json,
    write_pictures,
    write_tokenizer,
)

SIZE, POSITIONS, WORDS = 32, 24, 3450
END = WORDS - 1
TINY_DIGEST = "e7aa2cf8d81067940dfc76afd735254f"


def small_config(hidden_act: str = "quick_gelu", **text: Any) -> CLIPConfig:
    common = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": hidden_act}
    return CLIPConfig(
        vision_config={
            **common,
            "hidden_size": 24,
            "intermediate_size": 48,
            "image_size": SIZE,
            "patch_size": 8,
        },
        text_config={
            **common,
            "hidden_size": 16,
            "intermediate_size": 32,
            "vocab_size": WORDS,
            "max_position_embeddings": POSITIONS,
            "bos_token_id": END - 1,
            "eos_token_id": END,
            **text,
        },
        projection_dim=12,
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with all of its files."""
    folder = tmp_path_factory.mktemp("original")
    random_weights(small_config()).save_pretrained(folder)
    write_tokenizer(folder, WORDS, POSITIONS)
    write_json(folder / "preprocessor_config.json", preprocessor(SIZE))
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def hub(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a checkpoint where the hub's client keeps what it has downloaded; returns its id."""
    snapshot = cache / "models--someone--clip" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    refs = cache / "models--someone--clip" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return "someone/clip"


HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
PROCESSORS: dict[str, dict[str, Any]] = {
    "first generation": first_generation(SIZE),
    "LAION": {**first_generation(SIZE), "size": {"shortest_edge": SIZE}, "rescale_factor": 1 / 255},
    "today": preprocessor(SIZE),
    "halves": preprocessor(SIZE, **HALVES),
    "larger edge": preprocessor(SIZE, size={"shortest_edge": SIZE + 9}),
    "squashed": preprocessor(SIZE, size={"height": SIZE, "width": SIZE}, do_center_crop=False),
    "squashed, then cut": preprocessor(SIZE, size={"height": SIZE + 4, "width": SIZE + 11}),
    "bilinear": preprocessor(SIZE, resample=2),
    "lanczos": preprocessor(SIZE, resample=1),
    "only rescaled": preprocessor(SIZE, do_normalize=False),
    "only normalised": preprocessor(SIZE, do_rescale=False, image_mean=[120.0] * 3, image_std=[60.0] * 3),
    "vit": {"image_processor_type": "ViTImageProcessor", "size": SIZE, **HALVES},
    "fast": preprocessor(SIZE, image_processor_type="CLIPImageProcessorFast", **HALVES),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pictures_are_prepared_as_the_checkpoint_says(name: str, copy: Path, pictures: list[Path]) -> None:
    write_json(copy / "preprocessor_config.json", PROCESSORS[name])
    assert_equal(load_backbone(str(copy)), str(copy), pictures, TEXTS[:1])


def test_a_folder_that_transformers_saves_today(copy: Path, pictures: list[Path]) -> None:
    write_json(copy / "preprocessor_config.json", preprocessor(SIZE, **HALVES))
    processor = CLIPProcessor(AutoImageProcessor.from_pretrained(copy), AutoTokenizer.from_pretrained(copy))
    (copy / "preprocessor_config.json").unlink()
    processor.save_pretrained(copy)
    assert not (copy / "preprocessor_config.json").exists()
    assert_equal(load_backbone(str(copy)), str(copy), pictures, TEXTS)


def test_from_the_hub_too(
    copy: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(copy / "preprocessor_config.json", preprocessor(SIZE, **HALVES))
    place = hub(copy, tmp_path / "hub", monkeypatch)
    assert_equal(load_backbone(place), place, pictures, TEXTS)
    assert shape_of(place).joint == 12


def test_a_pickle_and_a_part_on_the_hub_are_refused_too(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CLIPModel.from_pretrained(copy)
    (copy / "model.safetensors").unlink()
    place = hub(copy, tmp_path / "part", monkeypatch)
    with pytest.raises(InterplayError, match="someone/clip' could not be loaded"):
        load_backbone(place)
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    place = hub(copy, tmp_path / "pickle", monkeypatch)
    with pytest.raises(InterplayError, match="'someone/clip' holds its weights as a pickle"):
        load_backbone(place)


def test_a_table_goes_through_the_image_cache_by_the_same_rules(
    copy: Path, pictures: list[Path], tmp_path: Path
) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("image,text\n" + "".join(f"{path},a\n" for path in pictures))
    backbones = []
    for at, size in enumerate(({"shortest_edge": SIZE}, {"shortest_edge": SIZE + 9})):
        write_json(copy / "preprocessor_config.json", preprocessor(SIZE, size=size))
        backbones.append(load_backbone(str(copy)))
        cache = ImageCache(tmp_path / "cache", backbones[at].square)
        encoded = EncodedTable.from_table(load(str(table)), backbones[at], cache)
        expected = [to_square(Image.open(path).convert("RGB"), backbones[at].square) for path in pictures[:3]]
        np.testing.assert_array_equal(encoded.pixels([0, 1, 2]), np.stack(expected))
    with pytest.raises(InterplayError, match=r"holds pictures of 32-41-3 pixels, but .* reads 32\."):
        EncodedTable.from_table(load(str(table)), backbones[0], cache)


def test_what_pictures_become_is_part_of_the_digest(copy: Path) -> None:
    digests = {}
    for name in ("first generation", "today", "halves", "larger edge", "bilinear", "only rescaled"):
        write_json(copy / "preprocessor_config.json", PROCESSORS[name])
        digests[name] = load_backbone(str(copy)).digest
    assert digests["first generation"] == digests["today"]
    assert len(set(digests.values())) == 5
    assert load_backbone("tiny").digest == TINY_DIGEST  # what older artefacts, galleries and cells name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": {"shortest_edge": SIZE - 1}}, "does not make the square of 32 x 32 pixels"),
        ({"crop_size": {"height": SIZE, "width": SIZE + 1}}, "does not make the square"),
        ({"crop_size": {"height": 16, "width": 16}}, "does not make the square"),
        ({"do_center_crop": False}, "does not make the square"),
        ({"do_resize": False}, "does not resize pictures"),
        ({"do_pad": True}, "pads pictures"),
        (
            {"size": {"shortest_edge": SIZE, "longest_edge": 50}},
            "neither a shorter edge nor height and width",
        ),
        ({"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.5}, "something else of a picture"),
        ({"image_std": [0, 0, 0]}, "something else of a picture"),
        ({"image_mean": "grey"}, "do not make sense"),
        ({"resample": None}, "do not make sense"),
        ({"rescale_factor": []}, "do not make sense"),
        ({"size": []}, "does not say how its pictures are prepared"),
        ({"image_processor_type": 7}, "does not say how its pictures are prepared"),
    ],
)
def test_rules_for_pictures_without_a_place_here_are_refused(
    changes: dict[str, Any], message: str, copy: Path
) -> None:
    write_json(copy / "preprocessor_config.json", preprocessor(SIZE, **changes))
    with pytest.raises(InterplayError, match=f"checkpoint' .*{message}"):
        load_backbone(str(copy))


def test_a_checkpoint_without_rules_for_pictures_is_refused(copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(InterplayError, match=r"checkpoint' does not say how .* preprocessor_config\.json"):
        load_backbone(str(copy))


@pytest.mark.parametrize("form", ["half", "shards", "half shards"])
def test_weights_in_halves_and_shards(form: str, copy: Path, pictures: list[Path]) -> None:
    model = CLIPModel.from_pretrained(copy)
    (copy / "model.safetensors").unlink()
    model = model.half() if "half" in form else model
    model.save_pretrained(copy, max_shard_size="100KB" if "shards" in form else "1GB")
    assert ("shards" in form) == (copy / "model.safetensors.index.json").exists()
    assert_equal(load_backbone(str(copy)), str(copy), pictures, TEXTS)


def without(folder: Path, *lost: str) -> None:
    """Save the weights again but for some tensors."""
    model = CLIPModel.from_pretrained(folder)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith(lost)}
    model.save_pretrained(folder, state_dict=kept)


@pytest.mark.parametrize(
    ("lost", "count"),
    [(("text_model.encoder.layers.1.mlp.fc1",), 2), (("visual_projection",), 1), (("logit_scale",), 1)],
)
def test_missing_tensors_are_refused(
    lost: tuple[str, ...], count: int, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    without(copy, *lost)
    capfd.readouterr()
    with pytest.raises(InterplayError, match=rf"checkpoint' lacks {count} of its tensors \({lost[0]}"):
        load_backbone(str(copy))
    assert capfd.readouterr() == ("", "")


def test_tensors_of_other_sizes_are_refused(copy: Path) -> None:
    edit_config(copy, "text", vocab_size=WORDS + 1)
    with pytest.raises(InterplayError, match=r"checkpoint' 1 tensors have not the sizes .*token_embedding"):
        load_backbone(str(copy))


def test_tensors_that_no_layer_reads_are_refused(copy: Path) -> None:
    edit_config(copy, "vision", num_hidden_layers=1)
    with pytest.raises(
        InterplayError, match=r"checkpoint' has 16 tensors of layers that its config\.json does not"
    ):
        load_backbone(str(copy))


@pytest.mark.parametrize(
    "lost",
    [
        ("tokenizer.json", "vocab.json", "merges.txt"),
        ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"),
    ],
)
@pytest.mark.parametrize("end", [END, 2])
def test_a_checkpoint_without_its_tokenizer_is_refused(lost: tuple[str, ...], end: int, copy: Path) -> None:
    edit_config(copy, "text", eos_token_id=end)
    for name in lost:
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(InterplayError, match=r"checkpoint' has no tokenizer that reads words .*: copy"):
        load_backbone(str(copy))


def test_a_tokenizer_that_puts_no_words_together_is_refused(copy: Path) -> None:
    tokenizer = json.loads((copy / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["merges"] = []
    write_json(copy / "tokenizer.json", tokenizer)
    with pytest.raises(InterplayError, match="checkpoint' has no tokenizer that reads words"):
        load_backbone(str(copy))


def test_a_tokenizer_of_another_checkpoint_is_refused(copy: Path) -> None:
    write_tokenizer(copy, WORDS - 7, POSITIONS)
    with pytest.raises(
        InterplayError, match=rf"ends texts with the id {END - 7}, but its config.json says {END}"
    ):
        load_backbone(str(copy))
    write_tokenizer(copy, WORDS + 7, POSITIONS)
    with pytest.raises(
        InterplayError, match=rf"has ids up to {END + 7}, but its text tower has {WORDS} words"
    ):
        load_backbone(str(copy))


def test_only_whole_clips_are_loaded(tmp_path: Path) -> None:
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**small, image_size=8, patch_size=8))
    text = CLIPTextModelWithProjection(CLIPTextConfig(**small, vocab_size=9))
    vision.save_pretrained(tmp_path / "vision")
    text.save_pretrained(tmp_path / "text")
    SiglipConfig().save_pretrained(tmp_path / "siglip")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text("{")
    for name, message in {
        "vision": "vision' has an image tower alone .* load the whole checkpoint",
        "text": "text' has a text tower alone .* load the whole checkpoint",
        "siglip": "siglip' is a checkpoint of the kind 'siglip', which is not supported",
        "nothing": "nothing' holds no CLIP checkpoint: it has no config.json",
        "torn": "torn' holds no CLIP checkpoint that can be read",
    }.items():
        for open_it in (load_backbone, shape_of):
            with pytest.raises(InterplayError, match=message):
                open_it(str(tmp_path / name))


@pytest.mark.parametrize(
    ("side", "change", "message"),
    [
        ("vision", {"num_channels": 4}, "its pictures have 4 channels, not 3"),
        ("vision", {"image_size": [32, 48]}, "its pictures or patches are no squares"),
        ("text", {"eos_token_id": [1, 2]}, "names \\[1, 2\\] as eos_token_id, not one token"),
        ("text", {"hidden_size": "wide"}, "holds no CLIP checkpoint that can be read"),
        ("text", {"dtype": [0]}, "holds no CLIP checkpoint that can be read"),
    ],
)
def test_configurations_that_no_tower_here_has(
    side: str, change: dict[str, Any], message: str, copy: Path
) -> None:
    edit_config(copy, side, **change)
    with pytest.raises(InterplayError, match=message):
        load_backbone(str(copy))


def test_damaged_weights_are_named(copy: Path) -> None:
    os.truncate(copy / "model.safetensors", 1000)
    with pytest.raises(InterplayError, match="checkpoint' holds no CLIP checkpoint that can be read"):
        load_backbone(str(copy))


def test_pickles_are_opened_only_where_asked_for_and_then_for_tensors_alone(
    copy: Path, original: Path, pictures: list[Path]
) -> None:
    model = CLIPModel.from_pretrained(copy)
    (copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    with pytest.raises(
        InterplayError, match=r"checkpoint' holds its weights as a pickle .* allow_pickle=True"
    ):
        load_backbone(str(copy))
    loaded = load_backbone(str(copy), allow_pickle=True)
    assert_equal(loaded, str(original), pictures[:1], TEXTS[:1])
    torch.save({**model.state_dict(), "logit_scale": os.system}, copy / "pytorch_model.bin")
    with pytest.raises(InterplayError, match="checkpoint' holds no CLIP checkpoint that can be read"):
        load_backbone(str(copy), allow_pickle=True)


@pytest.mark.parametrize("grown", [(), ("<place>", "<thing>")])
@pytest.mark.parametrize("end", [2, END])
def test_texts_are_pooled_where_transformers_pools_them(
    end: int, grown: tuple[str, ...], copy: Path, pictures: list[Path]
) -> None:
    """An end token of 2 means the highest id, which is an added word where a text holds one."""
    model = CLIPModel.from_pretrained(copy)
    model.text_model.resize_token_embeddings(WORDS + len(grown))
    model.save_pretrained(copy)
    edit_config(copy, "text", eos_token_id=end, vocab_size=WORDS + len(grown))
    write_tokenizer(copy, WORDS, POSITIONS, grown)
    backbone = load_backbone(str(copy))
    texts = [*TEXTS, "a <place> of apples", "<thing>", "the <|endoftext|> is near"]
    assert_equal(backbone, str(copy), pictures[:1], texts)
    assert backbone.text.shape.end_token == END
    assert backbone.text.shape.pools_highest_id == (end == 2)
    assert backbone.truncated == 1


def test_long_texts_print_no_warning_about_indexing(
    copy: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    load_backbone(str(copy)).tokenize(["word " * 200])
    assert capfd.readouterr().err == ""
    assert caplog.text == ""


def test_the_bundled_backbone_equals_transformers(pictures: list[Path]) -> None:
    assert_equal(load_backbone("tiny"), str(bundled_folder()), pictures, TEXTS)
    folder, tiny = str(bundled_folder()), load_backbone("tiny")
    checked = read_checkpoint(folder, folder)
    other = from_clip(
        checked.model, checked.tokenizer, "tiny", checked.normalisation, checked.square
    )  # as a stranger's
    assert (tiny.shape, tiny.scale, tiny.square) == (other.shape, other.scale, other.square)
    assert (tiny.digest, tiny.image.normalisation) == (other.digest, other.image.normalisation)
    assert tiny.tokenizer_json() == other.tokenizer_json()
    texts = [*TEXTS, "", "word " * 200, "Ünïcödé  漢字 🍎\n\ttabs", "don't <|endoftext|> stop"]
    assert torch.equal(tiny.tokenize(texts), other.tokenize(texts))
    assert tiny.truncated == other.truncated == 2
    assert shape_of("tiny") == shape_of(folder)
