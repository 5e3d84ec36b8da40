"""Partitions on a Ray cluster, by Ray Data: actors hold the encoder, and each writes what it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from interplay.bulk.making import Making
from interplay.bulk.plan import Partition
from interplay.embeddings import Record, read_record
from interplay.errors import InterplayError
from interplay.ray_cluster import connected

_BLOCKS = 4
"""Blocks of partitions for each actor: fewer start its workers less often, more share the work out evenly."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, all of whose nodes read the input and write the output under the same paths.

    Attributes:
        address: `auto`, `local`, `HOST:PORT` or `ray://HOST:PORT`.
        cpus: threads that an actor computes with; it reserves as many processors, and one for each worker process.
        gpus: graphics processors that it reserves, or a part of one.

    Raises:
        InterplayError: fewer processors than one, or a negative number of graphics processors.
    """

    address: str
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.gpus < 0:
            raise InterplayError("An actor takes at least 1 processor and no negative number of GPUs.")


def run_on_ray(partitions: Sequence[Partition], making: Making, cluster: Cluster) -> Iterator[Record]:
    """Make partitions on a cluster; yields the record of each when its block is finished.

    Raises:
        InterplayError: no cluster answers, it has not enough processors for one actor, or an actor failed.
    """
    with connected(cluster.address) as ray:
        from ray import data

        reserved = cluster.cpus + making.workers
        actors = min(len(partitions), _room(ray.cluster_resources(), reserved, cluster.gpus))
        if not actors:
            raise InterplayError(
                f"The Ray cluster at '{cluster.address}' has no {reserved} processors and {cluster.gpus:g} GPUs for an "
                "actor: choose fewer --cpus, --workers or --gpus."
            )
        data.DataContext.get_current().enable_progress_bars = False
        rows = [{"partition": partition} for partition in partitions]
        made = data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS * actors)).map_batches(
            _OnNode,
            fn_constructor_args=(ray.put(replace(making, folder=making.folder.absolute())), cluster),
            batch_size=None,
            batch_format="numpy",
            num_cpus=reserved,
            num_gpus=cluster.gpus,
            compute=data.ActorPoolStrategy(size=actors),
        )
        try:
            for row in made.iter_rows():
                yield read_record(making.folder, int(row["number"]))
        except ray.exceptions.RayError as problem:
            raise InterplayError(
                f"An actor on the Ray cluster failed ({str(problem).strip().splitlines()[-1][:200]}): repeat the "
                "command, which goes on where it was."
            ) from None


def _room(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """How many actors fit into a cluster."""
    room = int(resources.get("CPU", 0) // cpus)
    return min(room, int(resources.get("GPU", 0) // gpus)) if gpus else room


class _OnNode:
    """What an actor does."""

    def __init__(self, making: Any, cluster: Cluster) -> None:
        import ray

        torch.set_num_threads(cluster.cpus)
        self._making: Making = ray.get(making)
        if cluster.gpus:
            self._making.encoder.retriever.to("cuda")

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
        for record in self._making.run(batch["partition"]):
            yield {"number": [record.number]}
