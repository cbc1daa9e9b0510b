"""What to do when the device's memory runs out: the same work in halves, down to single items."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
_CPU_MESSAGES = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory")


def exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the device or the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MESSAGES)


def release() -> None:
    """Give back what an accelerator's allocator keeps of work that failed."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_halves(
    work: Callable[[Sequence[Item]], Result], items: Sequence[Item], alone: Callable[[Item, Exception], Result]
) -> list[Result]:
    """Do `work` on all items at once; where memory runs out, on each half, and so on.

    Args:
        work: may be tried again on a part of its items, so it must not leave anything behind when it fails.
        items: at least one.
        alone: what becomes of an item that exhausts the memory by itself.

    Returns:
        What `work` or `alone` gave, one for each part, in order.
    """
    try:
        return [work(items)]
    except (RuntimeError, MemoryError) as error:
        if not exhausted(error):
            raise
        if len(items) == 1:
            return [alone(items[0], error)]
    release()  # outside the handler: the error holds the tensors of its frames
    half = len(items) // 2
    return in_halves(work, items[:half], alone) + in_halves(work, items[half:], alone)
