"""A cluster gives the bytes of one process."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from interplay import InterplayError, Retriever
from interplay.bulk.on_ray import Cluster

from .toy import contents, flip, make_folder, run


@pytest.mark.slow
def test_a_cluster_of_two_nodes_gives_the_same_bytes(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Local

    photos = make_folder(tmp_path / "photos", 50)
    retriever = Retriever("tiny", "lora")
    retriever.method.sessions.begin("a", retriever.backbone.text.positions.new_zeros(retriever.joint))
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(photos, whole, retriever=retriever, partition_size=5).partitions == 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local = Local(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            local.add_node(num_cpus=1)
            cluster = Cluster(local.address)
            report = run(photos, out, retriever=retriever, partition_size=5, cluster=cluster)
            assert (report.partitions, report.items) == (10, 50)
            assert contents(out) == contents(whole)
            flip(out / "img_emb" / "img_emb_3.npy")
            assert run(photos, out, retriever=retriever, partition_size=5, cluster=cluster).partitions == 1
            assert contents(out) == contents(whole)
            with pytest.raises(InterplayError, match="has no 99 processors"):
                run(photos, tmp_path / "none", cluster=Cluster(local.address, cpus=99))
        finally:
            ray.shutdown()
            local.shutdown()
