"""Reading a CLIP checkpoint from a folder or the hub: all that belongs to it, or one sentence on what is amiss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoTokenizer, CLIPConfig, CLIPModel
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    has_file,
)
from transformers.utils import logging as transformers_logging

from interplay.errors import InterplayError, brief
from interplay.towers.preprocessing import Normalisation, Square, rules_of

_HALVES = {"clip_vision_model": "an image tower", "clip_text_model": "a text tower"}
_TOLD = 100  # characters of what another library says of its error
_OLD_END = 2  # what configurations from before transformers 4.31 say of the end token
_WORDS = 50  # whole words of a vocabulary that are tried; half of them have to be read as they are


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint consists of.

    Attributes:
        model: with its weights in fp32.
        tokenizer: of `transformers`.
        square, normalisation: how its image processor prepares pictures.
    """

    model: CLIPModel
    tokenizer: Any
    square: Square
    normalisation: Normalisation


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and tables that `transformers` prints while it loads: what is amiss is said here."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()


def read_config(place: str, name: str) -> CLIPConfig:
    """The configuration of a checkpoint with both of CLIP's towers.

    Args:
        place: a folder or a hub id.
        name: what the user called it.

    Raises:
        InterplayError: it cannot be reached or read, or is of another kind.
    """
    try:
        with _quiet():
            raw, _ = CLIPConfig.get_config_dict(place)
    except Exception as error:  # damaged files can raise nearly anything in transformers, here and below
        raise _unreachable(name, error) from error
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind != "clip":
        raise InterplayError(_other_kind(name, kind))
    try:
        with _quiet():
            config = CLIPConfig.from_dict(raw)
    except Exception as error:
        raise _unreachable(name, error) from error
    problem = _unsupported(config)
    if problem:
        raise InterplayError(f"The backbone '{name}' cannot be used: {problem}.")
    return config


def read_checkpoint(place: str, name: str, *, allow_pickle: bool = False) -> Checkpoint:
    """A whole checkpoint, every part of it as `transformers` loads it.

    Args:
        place: a folder or a hub id.
        name: what the user called it.
        allow_pickle: read weights that are there as a pickle alone (`pytorch_model.bin`), tensors and nothing else.

    Raises:
        InterplayError: as `read_config`; tensors are missing or have other sizes; there is no tokenizer or no image
            processor, or it does not fit; a pickle that was not allowed.
    """
    config = read_config(place, name)
    model = _model(place, name, allow_pickle)
    with _quiet():
        tokenizer = _tokenizer(place, name, config)
        square, normalisation = _pictures(place, name, config)
    return Checkpoint(model, tokenizer, square, normalisation)


def end_token(config: CLIPConfig, tokenizer: Any) -> int:
    """The id that ends a text; where an old configuration does not say it, what the tokenizer writes."""
    stated: int = config.text_config.eos_token_id
    return _ids(tokenizer, "")[-1] if pools_highest_id(config) else stated


def pools_highest_id(config: CLIPConfig) -> bool:
    """Whether texts are pooled at their highest id: checkpoints from before transformers 4.31 name no end token."""
    old: bool = config.text_config.eos_token_id == _OLD_END
    return old


def _unreachable(name: str, error: Exception) -> InterplayError:
    why = brief(str(error) or type(error).__name__, _TOLD).rstrip(".")
    if Path(name).is_dir():
        return InterplayError(f"The folder '{name}' holds no CLIP checkpoint that can be read ({why}).")
    return InterplayError(
        f"The backbone '{name}' could not be loaded: it is neither a folder with a CLIP checkpoint nor a hub "
        f"id that can be reached from here ({type(error).__name__}). Give a local folder, be online, or use "
        "the bundled backbone 'tiny'."
    )


def _other_kind(name: str, kind: object) -> str:
    if not isinstance(kind, str):
        return f"'{name}' holds no CLIP checkpoint: it has no config.json that names a model_type."
    if kind in _HALVES:
        return (
            f"The backbone '{name}' has {_HALVES[kind]} alone (model_type '{kind}'), and both towers are needed: "
            "load the whole checkpoint that it was taken from."
        )
    return (
        f"The backbone '{name}' is a checkpoint of the kind '{kind}', which is not supported: choose one of "
        "CLIP's own kind (model_type 'clip')."
    )


def _unsupported(config: CLIPConfig) -> str | None:
    """What a configuration asks for that the towers do not have, as half a sentence."""
    image, text = config.vision_config, config.text_config
    if not isinstance(image.image_size, int) or not isinstance(image.patch_size, int):
        return f"its pictures or patches are no squares ({image.image_size}, {image.patch_size})"
    if image.num_channels != 3:
        return f"its pictures have {image.num_channels} channels, not 3"
    if not isinstance(text.eos_token_id, int):
        return f"its text_config names {text.eos_token_id} as eos_token_id, not one token"
    return None


def _model(place: str, name: str, allow_pickle: bool) -> CLIPModel:
    try:
        with _quiet():
            safe = _has(place, SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)
            pickled = not safe and _has(place, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
            refused = pickled and not allow_pickle
            if not refused:
                model, found = CLIPModel.from_pretrained(
                    place,
                    dtype=torch.float32,
                    use_safetensors=not pickled,
                    weights_only=True,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
    except Exception as error:
        raise _unreachable(name, error) from error
    if refused:
        raise InterplayError(
            f"'{name}' holds its weights as a pickle alone ({WEIGHTS_NAME}), and pickles are not opened unasked: "
            f"save it again as safetensors, or read its tensors with load_backbone('{name}', allow_pickle=True)."
        )
    _check_complete(name, found)
    return model


def _has(place: str, *files: str) -> bool:
    """Whether a checkpoint has one of some files, without fetching any."""
    return any(has_file(place, file) for file in files)


def _check_complete(name: str, found: Mapping[str, Any]) -> None:
    """Whether every tensor of the model came from the checkpoint, by what `from_pretrained` tells."""
    missing = sorted(found["missing_keys"])
    if missing:
        raise InterplayError(
            f"The backbone '{name}' lacks {len(missing)} of its tensors ({_first(missing)}) and would run on random "
            "numbers in their place: download or save the checkpoint again."
        )
    unread = sorted(key for key in found["unexpected_keys"] if ".layers." in key)
    if unread:
        raise InterplayError(
            f"The backbone '{name}' has {len(unread)} tensors of layers that its config.json does not know "
            f"({_first(unread)}): take both from the same checkpoint."
        )
    other = sorted(str(key[0]) for key in found["mismatched_keys"])
    if other:
        raise InterplayError(
            f"In the backbone '{name}' {len(other)} tensors have not the sizes that its config.json says "
            f"({_first(other)}): download or save the checkpoint again."
        )


def _first(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}, …"


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer([text])["input_ids"][0]
    return ids


def _tokenizer(place: str, name: str, config: CLIPConfig) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        words = tokenizer.get_vocab()
        reads = _reads(tokenizer, words)
    except Exception as error:
        raise _no_tokenizer(name) from error
    if not reads:
        raise _no_tokenizer(name)
    rows, end = config.text_config.vocab_size, end_token(config, tokenizer)
    if max(words.values()) >= rows:
        raise InterplayError(
            f"The tokenizer of the backbone '{name}' has ids up to {max(words.values())}, but its text tower has "
            f"{rows} words: resize its embeddings (resize_token_embeddings) and save it again."
        )
    if _ids(tokenizer, "")[-1] != end:
        raise InterplayError(
            f"The tokenizer of the backbone '{name}' ends texts with the id {_ids(tokenizer, '')[-1]}, but its "
            f"config.json says {end} (text_config.eos_token_id): take both from the same checkpoint."
        )
    return tokenizer


def _reads(tokenizer: Any, words: Mapping[str, int]) -> bool:
    """Whether words are read as what they are, between a start and an end token.

    Without its files everything is unknown to a tokenizer.
    """
    whole = [word.removesuffix("</w>") for word in words if word.endswith("</w>")]
    plain = sorted(word for word in whole if len(word) > 2 and word.isascii() and word.islower())[:_WORDS]
    read = sum(_ids(tokenizer, word)[1:-1] == [words[f"{word}</w>"]] for word in plain)
    letter = _ids(tokenizer, "a")[1:-1]
    known = len(letter) == 1 and letter[0] not in (tokenizer.unk_token_id, tokenizer.eos_token_id)
    return known and 2 * read >= len(plain)


def _no_tokenizer(name: str) -> InterplayError:
    return InterplayError(
        f"The backbone '{name}' has no tokenizer that reads words between a start and an end token: copy its files "
        "(tokenizer.json, or vocab.json and merges.txt) from where the checkpoint comes from."
    )


def _pictures(place: str, name: str, config: CLIPConfig) -> tuple[Square, Normalisation]:
    try:
        processor = AutoImageProcessor.from_pretrained(place, trust_remote_code=False)
    except Exception as error:
        raise InterplayError(
            f"The backbone '{name}' does not say how its pictures are prepared: copy its preprocessor_config.json "
            "(or processor_config.json) from where the checkpoint comes from."
        ) from error
    return rules_of(processor, config.vision_config.image_size, name)
