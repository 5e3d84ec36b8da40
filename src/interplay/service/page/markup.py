"""Answers as HTML; every text that comes from outside is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING

from interplay.service.requests import Found, ModelState, Prediction
from interplay.towers.tokens import Side

if TYPE_CHECKING:
    from interplay.gallery.gallery import Hit
    from interplay.gallery.refresh import RefreshReport
    from interplay.retrieval.score_matrix import ScoreMatrix

_SIDES = {"image": "the picture", "text": "the text"}
_CLASSES = 6
"""Classes that the table of models names."""


def fault(words: str) -> str:
    """What was wrong."""
    return f'<p class="fault" role="alert">{escape(words)}</p>'


def done(words: str) -> str:
    """What has been done."""
    return f'<p class="done" role="status">{escape(words)}</p>'


def working(words: str) -> str:
    """What is being done."""
    return f'<p class="working" role="status"><progress></progress> {escape(words)}</p>'


def prediction(found: Prediction, reads: Sequence[Side]) -> str:
    """The decision, what it was made from, and a bar a class."""
    chosen = "Abstained: no class is probable enough." if found.abstained else _decision(found)
    read = " and ".join(_SIDES[side] for side in reads)
    rows = sorted(found.probabilities.items(), key=lambda one: -one[1])
    bars = "".join(_bar(label, share, label in found.labels) for label, share in rows)
    return (
        f'<section role="status"><p class="decision">{chosen}</p><p class="aside">Decided by {escape(read)}.</p>'
        f'<ul class="bars">{bars}</ul></section>'
    )


def _decision(found: Prediction) -> str:
    return escape(", ".join(found.labels)) if found.labels else "None of the classes."


def _bar(label: str, share: float, chosen: bool) -> str:
    kind = "bar chosen" if chosen else "bar"
    return (
        f'<li class="{kind}"><span class="name">{escape(label)}</span><span class="share">{share:.1%}</span>'
        f'<span class="track" aria-hidden="true"><span style="width:{100 * share:.1f}%"></span></span></li>'
    )


def hits(found: Found, thumbnails: Sequence[bytes | None]) -> str:
    """Hits, best first, or that there is none."""
    if not found.hits:
        return '<p class="nothing" role="status">Nothing found: no entry is near enough.</p>'
    rows = zip(found.hits, found.probabilities, thumbnails, strict=True)
    items = "".join(_hit(hit, probability, thumbnail) for hit, probability, thumbnail in rows)
    return (
        f'<p class="aside" role="status">{_number(len(found.hits), "hit")}</p><ol class="hits">{items}</ol>'
    )


def _hit(hit: Hit, probability: float | None, thumbnail: bytes | None) -> str:
    name = PurePath(hit.source).name if hit.side == "image" else hit.source
    name = hit.id or name
    picture = ""
    if thumbnail is not None:
        content = base64.b64encode(thumbnail).decode("ascii")
        picture = f'<img src="data:image/jpeg;base64,{content}" alt="{escape(name)}">'
    figures = [f"score {hit.score:.3f}"]
    if probability is not None:
        figures.append(f"right with {probability:.0%}")
    figures.append(f"route {hit.route}")
    states = (
        (hit.missing, "file gone"),
        (hit.changed, "file changed"),
        (hit.stale, "encoded before the last session"),
    )
    figures += [words for holds, words in states if holds]
    figures += [f"{key} {value}" for key, value in hit.metadata.items()]
    return f'<li>{picture}<strong>{escape(name)}</strong><span class="aside">{escape(" · ".join(figures))}</span></li>'


def gallery(state: ModelState, matrix: ScoreMatrix | None) -> str:
    """Entries, sessions and the recall of each task."""
    entries = "No gallery is served." if state.entries is None else f"{_number(state.entries, 'entry')}."
    sessions = [(str(at), name) for at, name in enumerate(state.sessions, start=1)]
    parts = [f'<p class="decision">{entries}</p>']
    if matrix is None or not matrix.stages:
        parts.append(_table("Sessions", ("", "task"), sessions))
        parts.append(
            '<p class="aside">Recall by task is measured by interplay continual; this run has none.</p>'
        )
    else:
        parts.append(_recall(matrix))
    return f"<section>{''.join(parts)}</section>"


def _recall(matrix: ScoreMatrix) -> str:
    k = matrix.ks[0]
    sides = [matrix.per_task(direction, k) for direction in ("image_to_text", "text_to_image")]
    rows = []
    for at, (to_text, to_image) in enumerate(zip(*sides, strict=True), start=1):
        rows.append((str(at), str(to_text["task"]), *(_change(one) for one in (to_text, to_image))))
    header = ("", "task", "picture → text", "text → picture")
    return _table(f"Recall@{k} of each task: when it was learned → now", header, rows)


def _change(line: dict[str, float]) -> str:
    return f"{line['learned']:.1%} → {line['last']:.1%}"


def refreshed(report: RefreshReport) -> str:
    """What a refresh did."""
    gone = f", {_number(len(report.missing), 'file')} gone" if report.missing else ""
    return done(
        f"Refreshed in {report.seconds:.1f} s: {_number(report.scanned, 'entry')} seen, {report.reencoded:,} encoded "
        f"again{gone}."
    )


def models(states: Iterable[ModelState]) -> str:
    """The table of all models."""
    rows = [
        (
            state.name,
            state.task,
            state.method,
            "loaded" if state.loaded else "on disk",
            _known(state.labels or state.sessions),
            "" if state.entries is None else f"{state.entries:,}",
        )
        for state in states
    ]
    return _table("Models", ("name", "task", "method", "state", "classes or tasks", "entries"), rows)


def _known(names: Sequence[str]) -> str:
    more = f" and {len(names) - _CLASSES} more" if len(names) > _CLASSES else ""
    return ", ".join(names[:_CLASSES]) + more


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where the screen is narrow; by keyboard too."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _number(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
