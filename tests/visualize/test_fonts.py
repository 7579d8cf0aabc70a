"""Words of any script on a contact sheet."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from captioner.caption import Caption
from captioner.visualize import plot


def draw(*words: str) -> bytes:
    maps = np.full((len(words), 2, 2), 0.25, np.float32)
    caption = Caption(words, (-1.0,) * len(words), maps, (0, 0, 1, 1))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot(Image.new("RGB", (40, 40), "red"), caption).savefig(buffer, format="png", dpi=30)
    return buffer.getvalue()


def test_letters_that_no_font_has_are_boxes_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dejavu = [entry for entry in font_manager.fontManager.ttflist if entry.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", dejavu)
    assert draw("栏", "dog") == draw("□", "dog")
    assert capfd.readouterr().err.count("captioner: no font here has 栏: they are drawn as □; install one") == 1


def test_usual_words_ask_for_no_font(capfd: pytest.CaptureFixture[str]) -> None:
    assert draw("été", "dog")
    assert capfd.readouterr() == ("", "")
