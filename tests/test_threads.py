"""Work of several threads: order, errors, ends."""

from __future__ import annotations

import threading

import pytest

from captioner.threads import map_in_threads


def test_results_come_in_order_whoever_is_done_first() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(10)
        if number == 1:
            second_is_done.set()
        return number * number

    assert map_in_threads(work, range(20), threads=2) == [number * number for number in range(20)]


def test_the_first_error_is_raised_and_nothing_more_is_begun() -> None:
    begun: list[int] = []
    may_go_on = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise KeyError(number)
        may_go_on.wait(10)

    with pytest.raises(KeyError):
        map_in_threads(work, range(100), threads=1)
    may_go_on.set()
    for thread in threading.enumerate():
        if thread.name.endswith("(_work)"):
            assert thread.daemon
            thread.join(10)
            assert not thread.is_alive()
    assert len(begun) <= 2


def test_nothing_is_nothing() -> None:
    assert map_in_threads(str, [], threads=2) == []
