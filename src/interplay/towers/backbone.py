"""A frozen dual encoder with everything around it: towers, tokenizer, picture size, temperature, identity."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from interplay.errors import InterplayError, unknown
from interplay.towers.clip import ImageTower, TextTower, load_image_tower, load_text_tower
from interplay.towers.presets import COUNTED, HUB_ORGANISATION, PRESETS
from interplay.towers.tokens import Shape, Side, TowerShape

BUNDLED = "tiny"


class Backbone(nn.Module):
    """Two frozen towers and what belongs to them.

    Attributes:
        name: what the user asked for: `tiny`, a preset, a hub id or a folder.
        image, text: the towers; their parameters never ask for a gradient.
        scale: the pre-trained factor on cosine similarities, exp(logit_scale).
        truncated: how many texts `tokenize` had to cut since the backbone was loaded.
    """

    def __init__(self, name: str, image: ImageTower, text: TextTower, scale: float, tokenizer: Any) -> None:
        super().__init__()
        self.name = name
        self.image = image
        self.text = text
        self.scale = scale
        self.truncated = 0
        self._tokenizer = tokenizer
        self.requires_grad_(False)
        self.eval()

    @property
    def shape(self) -> Shape:
        """The geometry of both towers."""
        return Shape(self.image.shape, self.text.shape)

    @property
    def image_size(self) -> int:
        """Side length in pixels of the pictures that the image tower reads."""
        return self.image.shape.image_size

    @property
    def device(self) -> torch.device:
        """Where the towers are."""
        return self.text.positions.device

    def tower(self, side: Side) -> ImageTower | TextTower:
        """The tower of one side."""
        return self.image if side == "image" else self.text

    @cached_property
    def digest(self) -> str:
        """Identity of the weights: BLAKE2b over every tensor in fp32, in the order of its name."""
        state = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.state_dict().items()):
            state.update(name.encode())
            state.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return state.hexdigest()

    def tokenize(self, texts: Sequence[str], *, reserve: int = 0) -> Tensor:
        """Texts to ids (batch, longest text), padded on the right behind the end token.

        Texts that are too long are cut, the end token is kept, and `truncated` counts them.

        Args:
            reserve: positions to leave free (prompts in front of the position embeddings, class suffixes).
        """
        limit = self.text.shape.positions - reserve
        rows: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=True)["input_ids"]
        end = self.text.shape.end_token
        rows = [[*row[:-1], end] for row in rows]
        self.truncated += sum(len(row) > limit for row in rows)
        rows = [row if len(row) <= limit else [*row[: limit - 1], end] for row in rows]
        ids = torch.full((len(rows), max(map(len, rows), default=0)), end, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
        return ids

    def tokenizer_json(self) -> str | None:
        """The tokenizer as the `tokenizers` package reads it, without cutting and padding; None if it is no such."""
        if not isinstance(self._tokenizer, PreTrainedTokenizerFast):
            return None
        fast = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        fast.no_truncation()
        fast.no_padding()
        text: str = fast.to_str(pretty=True)
        return text


def _tower_shapes(config: CLIPConfig) -> Shape:
    image, text = config.vision_config, config.text_config
    # Checkpoints from before transformers 4.31 say 2 and mean the highest id of the vocabulary.
    end = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id
    return Shape(
        image=TowerShape(
            width=image.hidden_size,
            depth=image.num_hidden_layers,
            heads=image.num_attention_heads,
            hidden=image.intermediate_size,
            joint=config.projection_dim,
            activation=image.hidden_act,
            epsilon=image.layer_norm_eps,
            image_size=image.image_size,
            patch_size=image.patch_size,
        ),
        text=TowerShape(
            width=text.hidden_size,
            depth=text.num_hidden_layers,
            heads=text.num_attention_heads,
            hidden=text.intermediate_size,
            joint=config.projection_dim,
            activation=text.hidden_act,
            epsilon=text.layer_norm_eps,
            vocabulary=text.vocab_size,
            positions=text.max_position_embeddings,
            end_token=end,
        ),
    )


def clip_config(shape: Shape) -> CLIPConfig:
    """The `transformers` configuration of a geometry, for random weights and for parity tests."""

    def common(side: TowerShape) -> dict[str, Any]:
        return {
            "hidden_size": side.width,
            "num_hidden_layers": side.depth,
            "num_attention_heads": side.heads,
            "intermediate_size": side.hidden,
            "projection_dim": side.joint,
            "hidden_act": side.activation,
            "layer_norm_eps": side.epsilon,
        }

    image, text = shape.image, shape.text
    return CLIPConfig(
        vision_config=common(image) | {"image_size": image.image_size, "patch_size": image.patch_size},
        text_config=common(text)
        | {
            "vocab_size": text.vocabulary,
            "max_position_embeddings": text.positions,
            "bos_token_id": text.end_token - 1,
            "eos_token_id": text.end_token,
            "pad_token_id": text.end_token,
        },
        projection_dim=shape.joint,
    )


def from_clip(
    model: CLIPModel,
    tokenizer: Any,
    name: str,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Backbone:
    """Towers from a loaded `transformers.CLIPModel`.

    Args:
        statistics: mean and deviation of the pixels, three numbers each; by default CLIP's.
    """
    shape = _tower_shapes(model.config)
    with torch.device("meta"):
        image = ImageTower(shape.image, *(tuple(three) for three in statistics or ()))  # type: ignore[arg-type]
        text = TextTower(shape.text)
    weights = {key: value.detach().float() for key, value in model.state_dict().items()}
    load_image_tower(image, weights)
    load_text_tower(text, weights)
    return Backbone(name, image, text, float(weights["logit_scale"].exp()), tokenizer)


def bundled_folder() -> Path:
    """Where the package keeps the checkpoint of `tiny`."""
    return Path(str(files("interplay.towers"))) / BUNDLED


def _place(name: str) -> str:
    """What `from_pretrained` has to be given for a backbone's name."""
    if name == BUNDLED:
        return str(bundled_folder())
    if name in PRESETS:
        return f"{HUB_ORGANISATION}/{name}"
    check_loadable(name)
    if "/" not in name and not Path(name).exists():
        raise unknown("backbone", name, [BUNDLED, *PRESETS])
    return name


def check_loadable(name: str) -> None:
    """Whether a backbone has towers that can run.

    Raises:
        InterplayError: it is a geometry for counting alone.
    """
    if name in COUNTED:
        raise InterplayError(
            f"'{name}' is a geometry for counting parameters ('interplay info'): it has no towers that could run. "
            f"Known backbones: {', '.join([BUNDLED, *PRESETS])}."
        )


def _unreachable(name: str, error: Exception) -> InterplayError:
    return InterplayError(
        f"The backbone '{name}' could not be loaded: it is neither a folder with a CLIP checkpoint nor a hub "
        f"id that can be reached from here ({type(error).__name__}). Give a local folder, be online, or use "
        f"the bundled backbone '{BUNDLED}'."
    )


def _pixel_statistics(place: str) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and deviation of the pixels as a local checkpoint folder states them."""
    path = Path(place) / "preprocessor_config.json"
    if not path.is_file():
        return None
    settings = json.loads(path.read_text())
    return settings["image_mean"], settings["image_std"]


def shape_of(name: str) -> Shape:
    """The geometry of a backbone; for presets and local folders without reading any weights.

    Raises:
        InterplayError: the backbone is unknown or cannot be reached.
    """
    if name in COUNTED:
        return COUNTED[name]
    place = _place(name)
    if name in PRESETS:
        return PRESETS[name]
    if place.removeprefix(f"{HUB_ORGANISATION}/") in PRESETS:
        return PRESETS[place.removeprefix(f"{HUB_ORGANISATION}/")]
    try:
        return _tower_shapes(CLIPConfig.from_pretrained(place))
    except (OSError, ValueError) as error:
        raise _unreachable(name, error) from error


def bundled_tokenizer() -> Any:
    """The tokenizer of `tiny`."""
    return AutoTokenizer.from_pretrained(str(bundled_folder()))


def random_backbone(name: str, seed: int = 0) -> Backbone:
    """A backbone of full geometry with seeded random weights: for speed and parity; its outputs mean nothing.

    Texts are read with the bundled tokenizer, whose ids are valid in every preset.
    """
    check_loadable(name)
    shape = shape_of(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(clip_config(shape))
    return from_clip(model, bundled_tokenizer(), f"{name} (random weights, seed {seed})")


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without the bar that `transformers` draws for every tensor it reads."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_backbone(name: str, *, random_weights: bool = False, seed: int = 0) -> Backbone:
    """Load a frozen dual encoder in fp32 on the CPU.

    Args:
        name: `tiny` (bundled), a preset such as `clip-vit-large-patch14`, any hub id of a CLIP checkpoint, or
            a folder in the same format.
        random_weights: seeded random weights of the full geometry instead of trained ones.

    Raises:
        InterplayError: the backbone is unknown, cannot be reached, or is no CLIP checkpoint.
    """
    if random_weights:
        return random_backbone(name, seed)
    place = _place(name)
    try:
        with _quiet_loading():
            model = CLIPModel.from_pretrained(place, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise _unreachable(name, error) from error
    return from_clip(model, tokenizer, name, _pixel_statistics(place))


def as_backbone(backbone: str | Backbone) -> Backbone:
    """A backbone from its name (`load_backbone`) or itself."""
    return load_backbone(backbone) if isinstance(backbone, str) else backbone
