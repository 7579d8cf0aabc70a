"""The browsers in which pages are tested."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from browsers import CHROMIUM, FIREFOX

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]
"""Marks of tests that open it."""

NEEDS_FIREFOX = [
    pytest.mark.browser,
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox is installed: apt-get install firefox-esr"),
    pytest.mark.skipif(find_spec("websockets") is None, reason="websockets is not installed: pip install -e '.[dev]'"),
]

EACH_BROWSER = [pytest.param("chromium", marks=NEEDS_CHROMIUM), pytest.param("firefox", marks=NEEDS_FIREFOX)]
"""Parameters for what is done in both."""
