"""The documentation as a site, opened from disk: nothing is loaded from elsewhere, and search finds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from browser import EACH_BROWSER
from browsers import chromium_tab, firefox_tab

ROOT = Path(__file__).parents[2]
LIMIT = 180.0
"""Seconds that the build or the search may take, on a machine that is busy."""
TABS: dict[str, Callable[[], AbstractContextManager[Any]]] = {"chromium": chromium_tab, "firefox": firefox_tab}

# The search is drawn in a tree of its own.
ROOTS = (
    "[...document.querySelectorAll('*')].map((each) => each.shadowRoot).filter((root) => root?.querySelector('input'))"
)
TYPE = f"""(() => {{
  const input = {ROOTS}[0].querySelector("input");
  input.value = WORD;
  input.dispatchEvent(new Event("input", {{ bubbles: true, composed: true }}));
}})()"""
FOUND = f"{ROOTS}.flatMap((root) => [...root.querySelectorAll('a')]).map((link) => link.href)"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("zensical") is None, reason="zensical is not installed: pip install -e '.[docs]'"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in ("docs", "captioner"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "pretrained"))
    shutil.copy(ROOT / "zensical.toml", folder)
    subprocess.run(
        ["zensical", "build", "--strict"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools" / "docs")},
        check=True,
        timeout=LIMIT,
    )
    return folder / "site"


@pytest.mark.parametrize("browser", EACH_BROWSER)
def test_search_finds_what_pages_say(browser: str, site: Path) -> None:
    with TABS[browser]() as tab:
        tab.goto((site / "index.html").as_uri())
        tab.click(".md-search__button")
        end = time.monotonic() + LIMIT
        while not any(link.startswith(site.as_uri() + "/serve.html") for link in tab.evaluate(FOUND)):
            assert time.monotonic() < end, tab.evaluate(FOUND)
            tab.evaluate(TYPE.replace("WORD", json.dumps("prometheus")))
            time.sleep(0.2)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        for before in ("src=", 'rel="stylesheet" href=', "url("):
            assert f'{before}"http' not in page.read_text(encoding="utf-8"), page
