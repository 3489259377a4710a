"""Whether a node could ever run an attempt, what is said where none could, and where attempts go."""

from __future__ import annotations

import pytest

from trax_ray.core.policy.fitting import spreads, why_none_fits
from trax_ray.core.policy.sharing import Amount
from trax_ray.core.task import ResourceRequest

SMALL, LARGE, GPU = Amount(4.0, 2048.0), Amount(64.0, 65536.0), Amount(8.0, 16000.0, 1.0)
HEAD = Amount(0.0, 8192.0)


@pytest.mark.parametrize(
    ("request_", "nodes"),
    [
        (ResourceRequest(4.0, 2048), [SMALL]),
        (ResourceRequest(1.0, 512, 0.5), [HEAD, SMALL, GPU]),
        (ResourceRequest(0.0, 512), [HEAD]),
        (ResourceRequest(0.1, 256, 0.1), [Amount(0.1, 256.0, 0.1)]),
    ],
)
def test_what_fits_an_idle_node(request_: ResourceRequest, nodes: list[Amount]) -> None:
    assert why_none_fits(request_, nodes) == ""


@pytest.mark.parametrize(
    ("request_", "nodes", "said"),
    [
        (
            ResourceRequest(1.0, 4096),
            [SMALL, SMALL, HEAD],
            "no node of the cluster can run a task that asks for 1 CPU and 4096 MB: its nodes have 4 CPUs and 2048 MB "
            "(2 of them): take a model that asks for less, or give the cluster a node with 1 CPU and 4096 MB for tasks",
        ),
        (
            ResourceRequest(1.0, 512, 1.0),
            [SMALL, LARGE],
            "no node of the cluster can run a task that asks for 1 CPU, 512 MB and 1 GPU: its nodes have 4 CPUs and "
            "2048 MB; 64 CPUs and 65536 MB: take a model that asks for less, or give the cluster a node with 1 CPU, "
            "512 MB and 1 GPU for tasks",
        ),
        (ResourceRequest(16.0, 512, 1.0), [LARGE, GPU], "64 CPUs and 65536 MB; 8 CPUs, 16000 MB and 1 GPU: "),
        (ResourceRequest(1.0, 512), [HEAD], "its nodes have 0 CPUs and 8192 MB: "),
        (ResourceRequest(1.0, 512), [], "its nodes have nothing: "),
        (
            ResourceRequest(99.0, 512),
            [Amount(float(cores), 1024.0) for cores in range(1, 7)],
            "4 CPUs and 1024 MB; and 2 other kinds: ",
        ),
    ],
)
def test_what_fits_none_is_refused_with_what_there_is_and_what_would(
    request_: ResourceRequest, nodes: list[Amount], said: str
) -> None:
    assert said in why_none_fits(request_, nodes)


def test_attempts_are_spread_unless_cores_beside_a_gpu_are_to_stay_free() -> None:
    assert spreads([SMALL, SMALL])
    assert spreads([HEAD, SMALL, LARGE])
    assert not spreads([HEAD, SMALL]), "there is one that runs any"
    assert not spreads([SMALL, SMALL, GPU])
    assert not spreads([])
