"""What a stream was worth: the figures side by side, and a sentence that knows what noise is."""

from __future__ import annotations

import pytest

from interplay.cli.worth import Counts, verdict, worth
from interplay.metrics.recall import Recall

COUNTS: Counts = {"signs": {"image": 100, "text": 200}, "flags": {"image": 50, "text": 50}}


def recall(share: float) -> Recall:
    """With so much recall@10 in both directions."""
    return {direction: {1: 0.0, 10: share} for direction in ("image_to_text", "text_to_image")}  # type: ignore[misc]


def test_every_task_stands_beside_the_bare_backbone_and_the_true_task() -> None:
    bare, own, oracle = ([recall(a), recall(b)] for a, b in ((0.2, 0.4), (0.3, 0.5), (0.6, 0.8)))
    told = worth(["signs", "flags"], COUNTS, bare, own, oracle)
    assert "Recall@10" in told
    lines = [line.split() for line in told.splitlines()]
    (signs,) = (line for line in lines if line[:1] == ["signs"])
    assert signs == ["signs", "100", "200", "0.200", "0.600", "0.300", "0.200", "0.600", "0.300"]
    (every,) = (line for line in lines if line[:2] == ["all", "tasks"])
    assert every[2:] == ["150", "250", "0.300", "0.700", "0.400", "0.300", "0.700", "0.400"]
    assert "true task" in told
    assert "true task" not in worth(["signs", "flags"], COUNTS, bare, own, None)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (0.6, "20.0 points above the bare backbone's, beyond noise"),
        (0.42, "2.0 points above the bare backbone's, which is within noise"),
        (0.38, "2.0 points below the bare backbone's, which is within noise"),
        (0.2, "worse than doing nothing"),
    ],
)
def test_the_sentence_says_whether_it_helped_beyond_noise(own: float, words: str) -> None:
    assert words in verdict(COUNTS, [recall(0.4)] * 2, [recall(own)] * 2, 10)


def test_noise_is_two_standard_errors_of_a_difference() -> None:
    told = verdict(COUNTS, [recall(0.5)] * 2, [recall(0.6)] * 2, 10)
    assert f"({100 * 2 * (0.25 / 400 + 0.24 / 400) ** 0.5:.1f} points)" in told
    assert (
        verdict(COUNTS, [recall(0.5)] * 2, [recall(0.5)] * 2, 10) == "Recall@10 is that of the bare backbone."
    )
