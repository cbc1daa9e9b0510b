"""Many forwards in parts: in order, one thread a worker, and every other thread keeps its number."""

import threading

import pytest
import torch

from mmel_cli.model.forwards import in_parts

CPU = torch.device("cpu")


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def count_of_a_new_thread():
    counts = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return counts[0]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("count", [1, 8, 9, 50])
def test_parts_come_in_order_and_threads_keep_their_number(count):
    used, later = [], []

    def work(numbers):
        used.append(torch.get_num_threads())
        later.append(count_of_a_new_thread())
        return numbers.float() * 2

    assert in_parts(work, count, 64, CPU).tolist() == [2.0 * n for n in range(count)]
    assert set(used) == ({1} if count > 8 else {3})
    assert set(later) == {3}
    assert torch.get_num_threads() == count_of_a_new_thread() == 3


@pytest.mark.usefixtures("three_threads")
def test_an_error_of_a_part_comes_through_and_leaves_the_number():
    def work(numbers):
        if 17 in numbers:
            raise RuntimeError("on purpose")
        return numbers

    with pytest.raises(RuntimeError, match="on purpose"):
        in_parts(work, 40, 64, CPU)
    assert count_of_a_new_thread() == 3
