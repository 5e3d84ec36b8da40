"""`interplay embed`: many pictures and texts to vectors on disk, on one machine or many."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, note
from interplay.errors import InterplayError

if TYPE_CHECKING:
    from interplay.bulk.on_ray import Cluster
    from interplay.bulk.plan import Share

GROUP = "Retrieve"


def embed(
    data: str,
    *,
    out: str,
    run: str | None = None,
    backbone: str | None = None,
    sides: tuple[Literal["image", "text"], ...] = (),
    no_keys: bool = False,
    partition: str | None = None,
    partition_size: int = 10_000,
    workers: int | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
    ray: str | None = None,
    cpus: int = 1,
    gpus: float = 0.0,
    random_weights: bool = False,
    progress: bool = True,
) -> Result:
    """Embed millions of pictures and texts into npy and Parquet files, in partitions that survive a kill.

    Examples:

      interplay embed photos/ --out embedded --backbone openai/clip-vit-base-patch32
      interplay embed "shards/{000..999}.tar" --out embedded --run runs/lpi --partition 3/8
      interplay embed pairs.csv --out embedded --ray auto --cpus 4

    OUT gets the layout that users of clip-retrieval know: img_emb/img_emb_0.npy, text_emb/text_emb_0.npy,
    metadata/metadata_0.parquet, and a manifest.json that says what encoded them. A call that was killed is made again
    and goes on; input that has grown adds partitions; a damaged partition, or one whose files have changed, is made
    again. What cannot be read keeps its row, with the reason in image_error or text_error.

    Args:
        data: a folder of pictures, each with its text in a .txt file beside it or without; tars as WebDataset writes
            them, in quotes where there are braces; or image-text pairs as 'interplay train' takes them.
        out: the folder to write; it takes the embeddings of one encoder alone.
        run: the folder of a retriever, whose prompts are used; by default the bare backbone encodes.
        backbone: without --run the backbone, by default `tiny`; with it, where to load the backbone from, if not from
            where the run says.
        sides: what to embed; by default what the input has.
        no_keys: with --run, do not keep the bare backbone's vectors beside the run's: a gallery needs them, and where
            all tasks share their prompts they take up to as long again.
        partition: the part of the work for this process, as 3/8 for the third of eight; by default all of it.
        partition_size: items of a partition of a folder or table; a tar is one partition.
        workers: processes that decode while this one encodes; by default one less than the processors, at most 8.
        dtype: of the arrays.
        precision: of the computation; bfloat16 is for accelerators.
        device: where to compute, as PyTorch spells it: cpu, cuda, cuda:1, mps.
        ray: address of a Ray cluster (auto, local, HOST:PORT or ray://HOST:PORT), whose nodes read DATA and write OUT
            under the same paths.
        cpus: on a cluster, threads that an actor computes with.
        gpus: on a cluster, graphics processors that an actor reserves.
        random_weights: random weights for the backbone; the vectors mean nothing, times and memory do.
        progress: show a progress bar.
    """
    folder = out_folder(out)
    if run is not None and random_weights:
        raise InterplayError("--random-weights is for --backbone alone: a run has its own weights.")
    share, cluster = _share(partition), _cluster(ray, cpus, gpus)
    from interplay.bulk.embed import embed as embed_all
    from interplay.cli.runs import open_backbone, open_retriever

    report = embed_all(
        data,
        folder,
        retriever=None if run is None else open_retriever(run, backbone),
        backbone="tiny"
        if run is not None
        else open_backbone(backbone or "tiny", random_weights=random_weights),
        sides=sides or None,
        keys=not no_keys,
        share=share,
        partition_size=partition_size,
        workers=workers,
        dtype=dtype,
        precision=precision,
        device=device,
        cluster=cluster,
        progress=progress,
    )
    if report.cut:
        note(f"{report.cut:,} texts were longer than the backbone reads, and were cut.")
    rate = report.items / report.seconds
    text = (
        f"{report.partitions:,} partitions with {report.items:,} items were made in {folder} ({rate:,.0f} a second), "
        f"{report.there:,} were there.\n{report.unreadable:,} items could not be read, or only half of them."
    )
    return Result({"out": out, **asdict(report)}, text)


def _share(partition: str | None) -> Share | None:
    """`3/8` as a part of the work."""
    if partition is None:
        return None
    number, slash, of = partition.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and max(len(number), len(of)) < 10):
        raise InterplayError(f"--partition takes a part of the whole, as 3/8, not '{partition:.40}'.")
    from interplay.bulk.plan import Share

    return Share(int(number), int(of))


def _cluster(ray: str | None, cpus: int, gpus: float) -> Cluster | None:
    """Where --ray sends the work; --cpus and --gpus are its own."""
    if ray is None:
        if cpus != 1 or gpus:
            raise InterplayError("--cpus and --gpus belong to --ray: name the cluster's address too.")
        return None
    from interplay.bulk.on_ray import Cluster

    return Cluster(ray, cpus, gpus)
