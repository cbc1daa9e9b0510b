"""Ranks on this machine: one a GPU, or each with its share of the cores."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

from mmel_cli.pipelines.rank_process import Asked, RankProcess


@contextmanager
def local_ranks(module: str, work: Mapping[str, Any], asked: Asked, _restarts: int) -> Iterator[list[RankProcess]]:
    """As many processes as are asked for, none of which is begun anew; see workers.Engine."""
    ranks = list[RankProcess]()
    try:
        for rank in range(asked.ranks.count):
            environment, cores = _placed(rank, asked.ranks.count, asked.device)
            ranks.append(RankProcess(module, dict(work) | {"rank": rank}, environment, cores))
        yield ranks
    finally:
        for one in ranks:
            one.end()


def shares(ranks: int, cores: Sequence[int]) -> list[list[int]]:
    """The cores of each rank: consecutive ones, or all where there are fewer cores than ranks."""
    if ranks > len(cores):
        return [list(cores)] * ranks
    ends = [len(cores) * number // ranks for number in range(ranks + 1)]
    return [list(cores[a:b]) for a, b in pairwise(ends)]


def _placed(rank: int, count: int, device: str) -> tuple[dict[str, str], list[int]]:
    """Where one of several ranks on this machine runs: variables of its environment, and its cores (empty: any).

    A GPU each where there are any and `device` asks for one, else a share of the cores and as many threads.
    """
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        known = visible if len(visible) == gpus else [str(number) for number in range(gpus)]
        return {"CUDA_VISIBLE_DEVICES": known[rank % gpus]}, []
    if not hasattr(os, "sched_getaffinity"):
        return {}, []
    every = sorted(os.sched_getaffinity(0))
    threads = str(max(1, len(every) // count))
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads), shares(count, every)[rank]
