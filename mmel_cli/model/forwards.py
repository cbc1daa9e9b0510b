"""Many forwards of altered inputs: in large batches on an accelerator, in small ones on every core of a CPU."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

CPU_PART = 8  # more do not fit the cache: each image then takes longer, not less
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parts(work: Callable[[Int[Tensor, "part"]], Tensor], count: int, batch: int, device: torch.device) -> Tensor:
    """Call `work` with the numbers 0 to count - 1, a part at a time, and join what it gives, in order.

    On a CPU each core works on its own parts with one thread: one thread pool for every operation of a small forward
    keeps the cores waiting for each other.

    Args:
        work: from numbers, int64 on `device`, to a tensor with one row a number; thread-safe.
        count: how many.
        batch: the most that go through the model at once.
        device: where the model lies.
    """
    parts = torch.arange(count, device=device).split(min(batch, CPU_PART) if device.type == "cpu" else batch)
    cores = min(torch.get_num_threads(), len(parts))
    if device.type != "cpu" or cores == 1:
        return torch.cat([work(part) for part in parts])
    with _pool(cores) as pool:
        return torch.cat(list(pool.map(work, parts)))


def spread(work: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """Call `work` with each item and list what it gives, in order; on a CPU every core takes the next with one thread.

    There the number of threads never depends on how many items there are, and neither do the bits of the results.
    """
    if device.type != "cpu" or torch.get_num_threads() == 1 or not items:
        return [work(item) for item in items]
    with _pool(min(torch.get_num_threads(), len(items))) as pool:
        return list(pool.map(work, items))


@contextmanager
def _pool(cores: int) -> Iterator[ThreadPoolExecutor]:
    """Workers of one thread each.

    torch.set_num_threads counts for the thread that calls it and for every thread that starts later, so the number
    that others start with is put back as soon as the workers have theirs.
    """
    before, ready = torch.get_num_threads(), threading.Barrier(cores + 1)

    def alone() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # from here on the worker keeps its own number
        ready.wait()

    with ThreadPoolExecutor(cores, initializer=alone) as pool:
        for _ in range(cores):
            pool.submit(int)  # a worker starts with the first task that finds none idle
        ready.wait()
        torch.set_num_threads(before)
        yield pool
