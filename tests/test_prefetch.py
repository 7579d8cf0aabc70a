"""Threads that work ahead: order, bounds, errors, ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from captioner.prefetch import map_ahead


def test_results_come_in_order_whoever_is_done_first() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(10)
        if number == 1:
            second_is_done.set()
        return number * number

    assert list(map_ahead(work, range(20), threads=2, ahead=4)) == [number * number for number in range(20)]


def test_no_more_items_are_asked_for_than_stand_ahead() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    results = map_ahead(str, items(), threads=3, ahead=5)
    assert not asked
    for taken in range(1, 50):
        next(results)
        assert len(asked) == taken + 5


def test_an_error_comes_in_its_place() -> None:
    results = map_ahead(lambda number: 1 // number, [1, 1, 0, 1], threads=2, ahead=3)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("taken", [0, 2])
def test_who_ends_early_leaves_no_thread_and_no_work_behind(taken: int) -> None:
    begun: list[int] = []
    may_go_on = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number >= taken:
            may_go_on.wait(10)

    results = map_ahead(work, range(100), threads=1, ahead=50)
    for _ in range(taken):
        next(results)
    results.close()
    may_go_on.set()
    for thread in threading.enumerate():
        if thread.name.endswith("(_work)"):
            thread.join(10)
            assert not thread.is_alive()
    assert len(begun) <= taken + 1


def test_nothing_is_nothing() -> None:
    assert list(map_ahead(str, [], threads=2, ahead=2)) == []
