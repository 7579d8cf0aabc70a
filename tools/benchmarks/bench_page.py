"""The page that captions in a browser, opened from disk: how large it is, how soon ready, how quick.

A round starts each browser that is installed, opens the page, waits until it is ready, and captions photographs one
after another. Of the rounds the fastest counts, for each time by itself, and of the photographs the median: the first
ones take longer, while the browser finds out what to optimize.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from browsers import CHROMIUM, FIREFOX, chromium_tab, firefox_tab
from timing import compare_to_limits

from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.cli.export import DEFAULT_RUNTIME
from captioner.errors import CaptionerError

SUMMARY = "the page that captions in a browser"

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
TARGETS = {"MB": 22.0, "ready, s": 3.0, "a photograph, ms": 300.0}
BROWSERS = {
    name: tab for name, tab, file in (("Chromium", chromium_tab, CHROMIUM), ("Firefox", firefox_tab, FIREFOX)) if file
}
LIMIT = 600.0
"""Seconds that anything in the page may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--page", metavar="FILE", help="the page (default: of the embedded model, written first)")
    parser.add_argument("--onnxruntime-web", default=DEFAULT_RUNTIME, metavar="DIR", help="for a page that is written")
    parser.add_argument("--photographs", default=str(SAMPLES), metavar="DIR", help="JPEG files (default: samples)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default: 5)")


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Opens the page, captions photographs, and reads the times that the page itself notes."""
    photographs = sorted(map(str, Path(args.photographs).resolve().glob("*.jpg")))
    if not photographs or not BROWSERS:
        raise CaptionerError(f"{args.photographs}: JPEG files are needed, and Chromium or Firefox")
    with TemporaryDirectory() as folder:
        page = Path(args.page or Path(folder) / "captioner.html").resolve()
        if not args.page:
            from captioner.export.page import write_page

            write_page(page, checkpoint_of(DEFAULT), args.onnxruntime_web)
        rounds = [[_round(tab, page, photographs) for tab in BROWSERS.values()] for _ in range(args.repeats)]
        size = page.stat().st_size / 1e6
    rows: list[dict[str, str | float]] = []
    for name, times in zip(BROWSERS, zip(*rounds, strict=True), strict=True):
        ready, *of_photographs = map(min, zip(*times, strict=True))
        values = size, ready / 1000, median(of_photographs)
        rows.append({"browser": name, **dict(zip(TARGETS, values, strict=True))})
    return rows


def targets(rows: Sequence[Mapping[str, str | float]]) -> list[dict[str, str | float]]:
    """What was to be reached in the first browser, and what was."""
    return compare_to_limits(rows[0], TARGETS)


def _round(browser: Callable[[], AbstractContextManager[Any]], page: Path, photographs: Sequence[str]) -> list[float]:
    """Milliseconds until the page is ready, and those of each photograph."""
    with browser() as tab:
        tab.goto(page.as_uri())
        times = [_wait_for(tab, "document.body.dataset.ready")]
        for count, photograph in enumerate(photographs, 1):
            tab.set_input_files("#files", [photograph])
            done = f"document.querySelectorAll('[data-milliseconds]').length === {count}"
            times.append(
                _wait_for(tab, f"{done} && document.querySelector('[data-milliseconds]').dataset.milliseconds")
            )
    return times


def _wait_for(tab: Any, number: str) -> float:  # noqa: ANN401 (a tab of either browser)
    """The value of an expression, once the page has one."""
    end = time.monotonic() + LIMIT
    while not (value := tab.evaluate(number)):
        if time.monotonic() > end:
            raise CaptionerError(f"the page does not answer: {tab.evaluate('document.body.innerText')[:200]}")
        time.sleep(0.1)
    return float(value)
