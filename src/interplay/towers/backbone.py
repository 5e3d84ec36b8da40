"""A frozen dual encoder with everything around it: towers, tokenizer, picture size, temperature, identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from interplay.errors import InterplayError, unknown, wrong_type
from interplay.files import read_json
from interplay.towers.clip import ImageTower, TextTower, load_image_tower, load_text_tower
from interplay.towers.preprocessing import CLIP_PIXELS, Normalisation, Square, normalisation_of
from interplay.towers.presets import COUNTED, HUB_ORGANISATION, PRESETS, TINY
from interplay.towers.tokens import Shape, Side, Towers, TowerShape
from interplay.typed import expect

if TYPE_CHECKING:
    from transformers import CLIPConfig, CLIPModel

BUNDLED = "tiny"


class Backbone(nn.Module):
    """Two frozen towers and what belongs to them.

    Attributes:
        name: what the user asked for: `tiny`, a preset, a hub id or a folder.
        image, text: the towers; their parameters never ask for a gradient.
        scale: the pre-trained factor on cosine similarities, exp(logit_scale).
        square: how pictures are cut to the square that the image tower reads.
        truncated: how many texts `tokenize` had to cut since the backbone was loaded.
    """

    def __init__(
        self,
        name: str,
        image: ImageTower,
        text: TextTower,
        scale: float,
        tokenizer: Any,
        square: Square | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.image = image
        self.text = text
        self.scale = scale
        self.square = square or Square(image.shape.image_size)
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
        """Identity of weights and pixels: BLAKE2b over every tensor in fp32, in the order of its name.

        What pictures are cut and normalised by joins where it is not CLIP's own rule.
        """
        state = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.state_dict().items()):
            state.update(name.encode())
            state.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        pixels, square = _numbers(self.image.normalisation), self.square
        if square != Square(self.image_size) or not torch.equal(pixels, _numbers(CLIP_PIXELS)):
            state.update(f"pixels {square.label}".encode() + pixels.numpy().tobytes())
        return state.hexdigest()

    def tokenize(self, texts: Sequence[str], *, reserve: int = 0) -> Tensor:
        """Texts to ids (batch, longest text), padded on the right after the end token.

        Texts that are too long are cut, the end token is kept, and `truncated` counts them.

        Args:
            reserve: positions to leave free (prompts before the position embeddings, class suffixes).
        """
        limit = self.text.shape.positions - reserve
        rows = self._ids(list(texts))
        end = self.text.shape.end_token
        rows = [[*row[:-1], end] for row in rows]
        self.truncated += sum(len(row) > limit for row in rows)
        rows = [row if len(row) <= limit else [*row[: limit - 1], end] for row in rows]
        ids = torch.full((len(rows), max(map(len, rows), default=0)), end, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
        return ids

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, however long."""
        if isinstance(self._tokenizer, Tokenizer):
            return [found.ids for found in self._tokenizer.encode_batch(texts)]
        rows: list[list[int]] = self._tokenizer(texts, verbose=False)[
            "input_ids"
        ]  # too long is no error here
        return rows

    def tokenizer_json(self) -> str | None:
        """The tokenizer as the `tokenizers` package reads it, without cutting and padding; None if it is no such."""
        given = self._tokenizer
        if not isinstance(given, Tokenizer):
            from transformers import PreTrainedTokenizerFast

            if not isinstance(given, PreTrainedTokenizerFast):
                return None
            given = given.backend_tokenizer
        fast = Tokenizer.from_str(given.to_str())
        fast.no_truncation()
        fast.no_padding()
        text: str = fast.to_str(pretty=True)
        return text


def clip_only(towers: Towers, method: str) -> Backbone:
    """The towers of a method that reads parts which only CLIP's have.

    Raises:
        InterplayError: they are others.
    """
    if not isinstance(towers, Backbone):
        raise InterplayError(f"The method '{method}' reads parts that only CLIP's towers have.")
    return towers


def _numbers(normalisation: Normalisation) -> Tensor:
    """A normalisation as one row in fp32."""
    return torch.tensor([*normalisation.mean, *normalisation.deviation, normalisation.divisor], device="cpu")


def _tower_shapes(config: CLIPConfig, end: int) -> Shape:
    from interplay.towers.checkpoint import pools_highest_id

    image, text = config.vision_config, config.text_config
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
            pools_highest_id=pools_highest_id(config),
        ),
    )


def clip_config(shape: Shape) -> CLIPConfig:
    """The `transformers` configuration of a geometry, for random weights and for parity tests."""
    from transformers import CLIPConfig

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
    normalisation: Normalisation = CLIP_PIXELS,
    square: Square | None = None,
) -> Backbone:
    """Towers from a loaded `transformers.CLIPModel`.

    Args:
        normalisation: of the pixels; by default CLIP's.
        square: how pictures are cut; by default as CLIP does.
    """
    from interplay.towers.checkpoint import end_token

    shape = _tower_shapes(model.config, end_token(model.config, tokenizer))
    return _from_weights(name, shape, model.state_dict(), tokenizer, normalisation, square)


def _from_weights(
    name: str,
    shape: Shape,
    weights: Mapping[str, Tensor],
    tokenizer: Any,
    normalisation: Normalisation,
    square: Square | None = None,
) -> Backbone:
    """Towers from the tensors of a `transformers.CLIPModel`, by its own names."""
    weights = {key: value.detach().float() for key, value in weights.items()}
    with torch.device("meta"):
        image = ImageTower(shape.image, normalisation)
        text = TextTower(shape.text)
    load_image_tower(image, weights)
    load_text_tower(text, weights)
    return Backbone(name, image, text, float(weights["logit_scale"].exp()), tokenizer, square)


def _bundled() -> Backbone:
    """`tiny` from the package's own files, which need none of the care that a stranger's checkpoint needs."""
    folder = bundled_folder()
    pixels = normalisation_of(read_json(folder / "preprocessor_config.json"))
    return _from_weights(BUNDLED, TINY, load_file(folder / "model.safetensors"), bundled_tokenizer(), pixels)


def bundled_folder() -> Path:
    """Where the package keeps the checkpoint of `tiny`."""
    return Path(str(files("interplay.towers"))) / BUNDLED


def _place(name: str) -> str:
    """What `from_pretrained` has to be given for a backbone's name."""
    if name in PRESETS:
        return f"{HUB_ORGANISATION}/{name}"
    check_loadable(name)
    if "/" not in name and not os.path.exists(name):
        raise unknown("backbone", name, [BUNDLED, *PRESETS])
    return name


def check_loadable(name: str) -> None:
    """Whether a backbone has towers that can run.

    Raises:
        InterplayError: it is a detector.
    """
    if name in COUNTED:
        raise InterplayError(
            f"'{name}' is a detector, of which costs alone can be counted here ('interplay info'). "
            f"Known backbones: {', '.join([BUNDLED, *PRESETS])}."
        )


def shape_of(name: str) -> Shape:
    """The geometry of a backbone; for presets and local folders without reading any weights.

    Raises:
        InterplayError: the backbone is unknown, cannot be reached, or is no CLIP checkpoint.
    """
    known = {BUNDLED: TINY} | PRESETS | COUNTED
    if name in known:
        return known[name]
    place = _place(name)
    if place.removeprefix(f"{HUB_ORGANISATION}/") in PRESETS:
        return PRESETS[place.removeprefix(f"{HUB_ORGANISATION}/")]
    from interplay.towers.checkpoint import pools_highest_id, read_config

    config = read_config(place, name)
    old = pools_highest_id(config)
    return _tower_shapes(
        config, config.text_config.vocab_size - 1 if old else config.text_config.eos_token_id
    )


def bundled_tokenizer() -> Tokenizer:
    """The tokenizer of `tiny`."""
    found = Tokenizer.from_file(str(bundled_folder() / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


def random_backbone(name: str, seed: int = 0) -> Backbone:
    """A backbone of full geometry with seeded random weights: for speed and parity; its outputs mean nothing.

    Texts are read with the bundled tokenizer, whose ids are valid in every preset.
    """
    check_loadable(name)
    shape = shape_of(name)
    from transformers import CLIPModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(clip_config(shape))
    return from_clip(model, bundled_tokenizer(), f"{name} (random weights, seed {seed})")


def load_backbone(
    name: str, *, random_weights: bool = False, seed: int = 0, allow_pickle: bool = False
) -> Backbone:
    """Load a frozen dual encoder in fp32 on the CPU, with its tokenizer and its rules for pictures.

    Args:
        name: `tiny` (bundled), a preset such as `clip-vit-large-patch14`, any hub id of a CLIP checkpoint, or
            a folder in the same format.
        random_weights: seeded random weights of the full geometry instead of trained ones.
        seed: of the random weights.
        allow_pickle: read the tensors of a checkpoint that is there as a pickle alone (`pytorch_model.bin`).

    Raises:
        InterplayError: the backbone is unknown, cannot be reached, is no CLIP checkpoint, or is not whole: a tensor,
            the tokenizer or the settings of its image processor are missing or do not fit.
    """
    expect("the backbone", name, str)
    if random_weights:
        return random_backbone(name, seed)
    if name == BUNDLED:
        return _bundled()
    from interplay.towers.checkpoint import read_checkpoint

    found = read_checkpoint(_place(name), name, allow_pickle=allow_pickle)
    return from_clip(found.model, found.tokenizer, name, found.normalisation, found.square)


def as_backbone(backbone: str | Path | Backbone) -> Backbone:
    """A backbone from its name or folder (`load_backbone`) or itself.

    Raises:
        InterplayError: as `load_backbone`; it is none of these.
    """
    if isinstance(backbone, Backbone):
        return backbone
    if not isinstance(backbone, (str, Path)):
        raise wrong_type("backbone", "a name, a folder or a loaded Backbone", backbone)
    return load_backbone(str(backbone))
