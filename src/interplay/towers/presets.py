"""Geometries of the published CLIP checkpoints, so that sizes and costs are known without any weights."""

from __future__ import annotations

from interplay.towers.tokens import Shape, TowerShape

HUB_ORGANISATION = "openai"


def _clip(width: int, depth: int, image_size: int, patch_size: int, text_width: int, joint: int) -> Shape:
    return Shape(
        image=TowerShape(
            width=width,
            depth=depth,
            heads=width // 64,
            hidden=4 * width,
            joint=joint,
            image_size=image_size,
            patch_size=patch_size,
        ),
        text=TowerShape(
            width=text_width,
            depth=12,
            heads=text_width // 64,
            hidden=4 * text_width,
            joint=joint,
            vocabulary=49408,
            positions=77,
            end_token=49407,
        ),
    )


PRESETS: dict[str, Shape] = {
    "clip-vit-base-patch32": _clip(768, 12, 224, 32, 512, 512),
    "clip-vit-base-patch16": _clip(768, 12, 224, 16, 512, 512),
    "clip-vit-large-patch14": _clip(1024, 24, 224, 14, 768, 768),
    "clip-vit-large-patch14-336": _clip(1024, 24, 336, 14, 768, 768),
}

TINY = Shape(
    image=TowerShape(width=144, depth=12, heads=3, hidden=576, joint=128, image_size=64, patch_size=16),
    text=TowerShape(
        width=128,
        depth=12,
        heads=4,
        hidden=512,
        joint=128,
        vocabulary=3435,
        positions=64,
        end_token=3434,
    ),
)
"""The geometry of the bundled checkpoint, `tiny`."""

GLIP_TINY = Shape(
    image=TowerShape(
        kind="swin",
        width=96,
        depth=12,
        heads=3,
        hidden=384,
        joint=96,
        activation="gelu",
        image_size=448,
        patch_size=4,
        stages=(2, 2, 6, 2),
        window=7,
    ),
    text=TowerShape(
        kind="bert",
        width=768,
        depth=12,
        heads=12,
        hidden=3072,
        joint=96,
        activation="gelu",
        epsilon=1e-12,
        vocabulary=30522,
        positions=512,
        end_token=102,
    ),
)
"""The towers of GLIP-T and of Grounding DINO-T, Swin-T and BERT-base. They have no joint space: `joint`, the width of
the keys that methods choose by, is that of the prompts on the image side."""

COUNTED: dict[str, Shape] = {"glip-tiny": GLIP_TINY}
"""Detectors: `interplay info` counts what a method costs on them; a dual encoder is needed for everything else."""
