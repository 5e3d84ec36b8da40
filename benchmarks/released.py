"""How far a method stands from its released form, on the same weights: the figures of docs/methods/index.md.

    python -m benchmarks.released

The bundled backbone, 64 test pictures and 32 names of `openmoji/continual`, weights as they start (seed 0). A logit is
the cosine of a picture and a name over the backbone's temperature.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay import load, load_backbone
from interplay.classification.classifier import encode_table
from interplay.encoding.embedding import table_inputs
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES
from interplay.towers.walk import encode

PICTURES, NAMES, LENGTH, DEPTH = 64, 32, 4, 9


def built(name: str, backbone: Backbone, **settings: Any) -> Method:
    """A method as it starts."""
    torch.manual_seed(0)
    method = choose(name).build(
        backbone.shape, {"depth": DEPTH, "length": LENGTH, "sessions": "shared", **settings}
    )
    method.start_from(backbone)
    return method.eval()


def logits(backbone: Backbone, images: Tensor, texts: Tensor) -> Tensor:
    """Cosines over the temperature."""
    return backbone.scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T


def ours(method: Method, backbone: Backbone, pixels: Tensor, ids: Tensor) -> Tensor:
    """What the method gives."""
    images = encode(backbone.image, "image", pixels, method)
    return logits(backbone, images, encode(backbone.text, "text", ids, method))


def dcp_as_released(
    method: Method, backbone: Backbone, pixels: Tensor, ids: Tensor, *, injected: bool
) -> Tensor:
    """DCP's released walk: exchanges read what the last layer made of the prompts, averaged over the batch.

    Args:
        injected: whether the text stream reaches the text tower, as the paper means and the released code forgets.
    """
    prompts: Any = method.bank.newest
    image = backbone.image.embed(pixels, context=prompts.image)
    text = backbone.text.embed(ids, context=prompts.text)
    for i in range(backbone.shape.image.depth):
        if 1 <= i <= DEPTH:
            v, t = image.slots.mean(dim=0), text.slots.mean(dim=0)
            image = image.put(prompts.to_image(v, t))
            text = text.put(prompts.to_text(t, v)) if injected else text
        image, text = backbone.image.layer(i, image), backbone.text.layer(i, text)
    return logits(backbone, backbone.image.pool(image), backbone.text.pool(text))


def alone(method: Method, backbone: Backbone, pixels: Tensor, ids: Tensor) -> Tensor:
    """The same with every picture as a batch of its own."""
    rows = [dcp_as_released(method, backbone, one[None], ids, injected=False) for one in pixels]
    return torch.cat(rows)


@torch.no_grad()
def main() -> None:
    """Print the largest and the mean difference of a logit."""
    backbone = load_backbone("tiny")
    table = load("openmoji/continual").split("test")
    encoded = encode_table(table.select(range(PICTURES)), backbone, reserve=LENGTH)
    pixels, ids = (table_inputs(encoded, side).read(range(PICTURES)) for side in SIDES)
    ids = ids[:NAMES]
    maple, as_released = built("maple", backbone), built("maple-released", backbone, profile="released")
    maple.load_state_dict(as_released.state_dict())
    dcp, own_heads = built("dcp", backbone), built("dcp", backbone, exchange="released")
    rows = {
        "maple: between the layers against released": (
            ours(maple, backbone, pixels, ids),
            ours(as_released, backbone, pixels, ids),
        ),
        "dcp: exchange = first against released": (
            ours(dcp, backbone, pixels, ids),
            ours(own_heads, backbone, pixels, ids),
        ),
        "dcp: exchange = released against the released model": (
            ours(own_heads, backbone, pixels, ids),
            dcp_as_released(own_heads, backbone, pixels, ids, injected=False),
        ),
        "dcp: exchange = released against the paper's model": (
            ours(own_heads, backbone, pixels, ids),
            dcp_as_released(own_heads, backbone, pixels, ids, injected=True),
        ),
        "dcp: the released model, a picture alone against in a batch of 64": (
            alone(own_heads, backbone, pixels, ids),
            dcp_as_released(own_heads, backbone, pixels, ids, injected=False),
        ),
    }
    for what, (one, other) in rows.items():
        apart = (one - other).abs()
        print(
            f"{what}: largest {apart.max():.2f}, mean {apart.mean():.2f} of logits with deviation {other.std():.2f}"
        )


if __name__ == "__main__":
    main()
