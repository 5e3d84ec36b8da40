"""The Python API of bulk embedding: `embed` takes millions of pictures and texts to vectors on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from interplay.bulk.encoder import Encoder, Precision
from interplay.bulk.items import Folder, Listing, Table
from interplay.bulk.making import Making
from interplay.bulk.on_ray import Cluster, run_on_ray
from interplay.bulk.plan import Share, listed_partitions, tar_partitions
from interplay.bulk.tars import is_pattern, sides_of, tars_of
from interplay.data.formats import is_data_folder
from interplay.data.readers import Source, load
from interplay.embeddings import (
    MANIFEST,
    PARTITIONS,
    Dtype,
    Embeddings,
    Manifest,
    Record,
    finished,
    read_embeddings,
)
from interplay.errors import InterplayError, unknown
from interplay.locks import holding
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Side
from interplay.typed import expect

PARTITION_SIZE = 10_000
"""Items of a partition of a folder or table; a tar is a partition of its own."""
_MOST_WORKERS, _MOST_ASKED = 8, 256


@dataclass(frozen=True)
class EmbedReport:
    """What a call of `embed` did.

    Attributes:
        partitions: that were made.
        items: in them.
        unreadable: items of which something could not be read; `read_embeddings` tells which, and why.
        there: partitions that were finished before, of this part of the work and of others.
        cut: texts that were longer than the text tower reads; not counted on a cluster.
        seconds: that it took.
    """

    partitions: int
    items: int
    unreadable: int
    there: int
    cut: int
    seconds: float


def embed(
    data: Source,
    out: str | Path,
    *,
    retriever: Retriever | None = None,
    backbone: str | Backbone = "tiny",
    sides: Sequence[Side] | None = None,
    keys: bool = True,
    share: Share | None = None,
    partition_size: int = PARTITION_SIZE,
    workers: int | None = None,
    dtype: Dtype = "float32",
    precision: Precision = "float32",
    device: str = "cpu",
    cluster: Cluster | None = None,
    progress: bool = True,
) -> EmbedReport:
    """Embed pictures and texts into a folder in clip-retrieval's layout (`interplay.embeddings`).

    The work is done in partitions, each written whole or not at all: a call that was killed is made again and goes on,
    an input that has grown adds partitions, and one that is damaged, or whose files have changed, is made again.
    Files that are gone change nothing. An item that cannot be read is listed in its partition, never left out.

    Args:
        data: a folder of pictures, each with its text in a `.txt` file beside it or without texts; tars as WebDataset
            writes them, `data/{000..999}.tar`; or image-text pairs as `interplay.data.load` takes them, of which the
            first text of each row is embedded.
        out: the folder that is written; it takes the embeddings of one encoder alone.
        retriever: whose prompts are used; None: the bare towers.
        backbone: without a retriever, the backbone.
        sides: `image`, `text` or both; by default what the input has.
        keys: of a retriever: keep the vectors of the bare towers too, which a gallery needs. Where its tasks share
            their prompts it takes up to twice as long.
        share: the part of all partitions that this process makes; others may make the other parts at the same time.
        partition_size: items of a partition of a folder or table.
        workers: processes that decode while this one encodes; by default one less than there are processors, at most 8.
        dtype: of the arrays.
        precision: of the computation; `bfloat16` is for accelerators.
        device: where the towers compute; on a cluster it is settled by `Cluster.gpus`.
        cluster: where the partitions are made; by default here.
        progress: show a bar.

    Raises:
        InterplayError: nothing to embed, a folder with embeddings of another encoder, a method that cannot encode one
            side alone, a full disk, no cluster.
    """
    began = time.monotonic()
    _check(partition_size, workers, dtype, precision)
    found = retriever or Retriever(backbone)
    encoder = Encoder(found, retriever is not None, keys, precision, dtype)
    if cluster is None:
        found.to(device)
    folder, share = Path(out), share or Share()
    tars, listing = _inputs(data)
    there_sides = sides_of(tars[0]) if listing is None else listing.sides()
    manifest = encoder.manifest(_chosen(sides, there_sides))
    with holding(folder / PARTITIONS / f"{share.number}-of-{share.of}"):
        there = _opened(folder, manifest, asked=sides is not None)
        making = Making(folder, encoder, there.manifest, _workers(workers))
        if listing is None:
            partitions = tar_partitions(tars, there, share)
        else:
            partitions = listed_partitions(listing, there, partition_size, share)
        before = len(finished(folder))
        cut = found.backbone.truncated
        if cluster is None:
            made = list(_shown(making.run(partitions), progress))
        else:
            made = list(_shown(run_on_ray([*partitions], making, cluster), progress))
    return EmbedReport(
        partitions=len(made),
        items=sum(record.rows for record in made),
        unreadable=sum(record.unreadable for record in made),
        there=before,
        cut=found.backbone.truncated - cut,
        seconds=time.monotonic() - began,
    )


def _check(partition_size: int, workers: int | None, dtype: str, precision: str) -> None:
    """Refuse settings that make no sense."""
    expect("partition_size", partition_size, int)
    expect("workers", workers, int | None)
    if partition_size < 1:
        raise InterplayError(f"partition_size must be at least 1, not {partition_size}.")
    if workers is not None and not 0 <= workers <= _MOST_ASKED:
        raise InterplayError(f"workers must be from 0 to {_MOST_ASKED}, not {workers}.")
    for name, value, known in (
        ("dtype", dtype, get_args(Dtype)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in known:
            raise unknown(name, value, known)


def _inputs(data: Source) -> tuple[list[str], Listing | None]:
    """The tars that data are, or the listing."""
    if isinstance(data, (str, os.PathLike)):
        name = str(data)
        if is_pattern(name):
            return tars_of(name), None
        place = Path(name)
        if place.is_dir() and not is_data_folder(place):
            return [], Folder.of(place)
    return [], Table(load(data, on_bad_row="skip", verify=False, labelled=False))


def _chosen(sides: Sequence[Side] | None, there: tuple[Side, ...]) -> tuple[Side, ...]:
    """The sides to encode, pictures first."""
    if sides is None:
        return there
    for side in sides:
        if side not in SIDES:
            raise unknown("side of a pair", side, SIDES)
        if side not in there:
            raise InterplayError(f"The input has no {side}s: leave sides out, or choose {there[0]}.")
    if not sides:
        raise InterplayError("sides is empty: choose image, text or both.")
    return tuple(side for side in SIDES if side in sides)


def _opened(folder: Path, manifest: Manifest, *, asked: bool) -> Embeddings:
    """The folder of embeddings, which says what encodes them.

    Args:
        asked: whether the sides were asked for; else they are those that the folder has.

    Raises:
        InterplayError: it holds those of another encoder, or something else.
    """
    if not (folder / MANIFEST).exists():
        manifest.write(folder)
    there = read_embeddings(folder)
    wanted, found = asdict(manifest), asdict(there.manifest)
    if not asked:
        wanted["sides"] = found["sides"]
    differs = next((name for name in wanted if wanted[name] != found[name]), None)
    if differs is not None:
        raise InterplayError(
            f"{folder} holds embeddings with {differs} = {found[differs]!s:.60}, now it is {wanted[differs]!s:.60}: "
            "choose another folder."
        )
    return there


def _workers(number: int | None) -> int:
    """How many processes decode."""
    return number if number is not None else max(0, min(_MOST_WORKERS, (os.cpu_count() or 1) - 1))


def _shown(made: Iterable[Record], progress: bool) -> Iterator[Record]:
    """Records as they come, with a bar of items."""
    from datasets.utils import tqdm

    with tqdm(desc="Embedding", unit=" items", disable=not progress, mininterval=1) as bar:
        for record in made:
            bar.update(record.rows)
            yield record
