"""The page that captions in the browser, where a server offers one."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import CLIENT, serving

from captioner.pipeline import Captioner
from captioner.serve.app import create_app

TEMPLATE = Path(__file__).parents[2] / "captioner" / "export" / "web" / "page.html"
LINK = 'href="page.html"'


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page without a model, in the encoding of one."""
    file = tmp_path / "captioner.html"
    file.write_bytes(TEMPLATE.read_text(encoding="utf-8").encode("utf-16"))
    return file


def test_it_is_offered_to_whoever_sees_the_other(tiny: Captioner, page: Path) -> None:
    with serving(create_app(tiny, token="correct-horse", page=page)) as address:
        assert LINK in CLIENT.get(f"{address}/").text
        answer = CLIENT.get(f"{address}/page.html")
        assert answer.content == page.read_bytes()
        assert answer.headers["content-type"] == "text/html; charset=utf-16"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert CLIENT.get(f"{address}/docs").status_code == 401


def test_a_server_without_one_does_not_mention_it(tiny: Captioner) -> None:
    with serving(create_app(tiny)) as address:
        assert LINK not in CLIENT.get(f"{address}/").text
        assert CLIENT.get(f"{address}/page.html").status_code == 404
