"""The verdicts on a family of contrasts as words and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interplay.comparison.contrasts import Finding, Link
from interplay.comparison.statistics import RESAMPLES
from interplay.files import write_text

HEADER = ("contrast", "verdict", "rows", "difference [95 %]", "corrected p", "smallest that would show")
NOTE = (
    "Differences in points, so that more is better. Intervals and p come from a bootstrap over seeds and over clusters "
    f"of test pairs that share a picture or a text ({RESAMPLES:,} resamples), with Student's t; p is one-sided and "
    "corrected over all contrasts (Holm). 'holds': the difference is above what was claimed. 'does not hold': it is "
    "surely less than the negligible part above that. The last column: the difference above the claim that this table "
    "would have shown with 80 % power."
)
"""What the columns mean."""


def lines_of(findings: Sequence[Finding]) -> list[list[str]]:
    """The findings as words, in the order of `HEADER`: a line a link, the verdict in the first one."""
    lines = []
    for finding in findings:
        p = min(finding.p_holds, finding.p_refuted)
        head = [finding.contrast.name, finding.verdict]
        if not finding.links:
            lines.append([*head, finding.missing, "–", "–", "–"])
        for at, link in enumerate(finding.links):
            shown = [*head, *_words(link), f"{p:.3f}"] if not at else ["", "", *_words(link), ""]
            lines.append([*shown, _points(link.detectable)])
    return lines


def _words(link: Link) -> list[str]:
    interval = f"{_points(link.difference)} [{_points(link.low)}, {_points(link.high)}]"
    return [f"{link.better} − {link.other}", interval]


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def markdown(findings: Sequence[Finding], title: str) -> str:
    """A page: the table, and below it each hypothesis in its words."""
    lines = [HEADER, ["---"] * len(HEADER), *lines_of(findings)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    hypotheses = "\n".join(f"- **{one.contrast.name}**: {one.contrast.hypothesis}" for one in findings)
    return f"# {title}\n\n{NOTE}\n\n{table}\n\n{hypotheses}\n"


def write_verdicts(findings: Sequence[Finding], folder: Path, title: str) -> Path:
    """Write `contrasts.md` beside the cells.

    Returns:
        Its path.
    """
    path = folder / "contrasts.md"
    write_text(path, markdown(findings, title))
    return path
