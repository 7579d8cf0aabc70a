"""The page at /, used in a real browser, with captions by a running server."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from browser import NEEDS_CHROMIUM, playwright
from PIL import Image
from serving import Gated, png, serving

from captioner.pipeline import Captioner
from captioner.serve.app import create_app

pytestmark = NEEDS_CHROMIUM
TOKEN = "correct-horse"
MILLISECONDS = 60_000
"""Longest wait of the browser."""


@pytest.fixture(scope="module")
def address(tiny: Captioner) -> Iterator[str]:
    with serving(create_app(tiny)) as address:
        yield address


@pytest.fixture
def tab(chromium: Any, address: str) -> Iterator[Any]:
    """A tab with the page; what asks for anything from elsewhere, or fails in the console, fails the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 800}, has_touch=True)
    context.set_default_timeout(MILLISECONDS)
    playwright.expect.set_options(timeout=MILLISECONDS)
    tab = context.new_page()
    troubles: list[str] = []
    # Chromium itself notes each answer that is no success.
    tab.on("console", lambda m: None if m.text.startswith("Failed to load resource") else troubles.append(m.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("request", lambda request: troubles.extend(re.findall("^(?!http://127.0.0.1:|data:|blob:).*", request.url)))
    tab.goto(address)
    yield tab
    context.close()
    assert troubles == []


def file(number: int = 0, name: str = "dog.png", content: bytes | None = None) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": png(number) if content is None else content}


def choose(tab: Any, *files: dict[str, Any]) -> None:
    tab.locator("#files").set_input_files(list(files))


def heading(tab: Any, text: str) -> None:
    playwright.expect(tab.locator("h1")).to_have_text(text)


TRANSFER = """([type, target, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "dog.png", { type: "image/png" }));
  const given = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
  const Kind = type === "paste" ? ClipboardEvent : DragEvent;
  document.querySelector(target).dispatchEvent(new Kind(type, given));
}"""


@pytest.mark.parametrize("way", ["choose", "photograph", "drop", "paste"])
def test_a_picture_gets_its_caption(tab: Any, tiny: Captioner, way: str) -> None:
    if way == "choose":
        choose(tab, file())
    elif way == "photograph":
        tab.locator("#camera").set_input_files(file())
    else:
        tab.evaluate(TRANSFER, [way, "body" if way == "paste" else "#drop", list(png())])
    caption = tiny.caption(png(), num_captions=5)
    heading(tab, caption.text)
    assert tab.locator("#photograph").get_attribute("alt") == caption.text
    assert tab.locator("#photograph").evaluate("image => image.decode().then(() => image.naturalWidth)") == 90
    assert tab.locator(".choice .text").all_text_contents() == [each.text for each in (caption, *caption.alternatives)]


def test_words_show_their_attention_and_probability(tab: Any, tiny: Captioner) -> None:
    choose(tab, file())
    caption = tiny.caption(png(), num_captions=5)
    heading(tab, caption.text)
    assert "Hover over a word" in tab.locator("#status").text_content()
    tab.locator(".word").nth(1).hover()
    number = f"{caption.word_log_probabilities[1]:.2f}".replace("-", "−")
    assert f"“{caption.words[1]}”, word 2 of {len(caption.words)}: log-probability {number}" in (
        tab.locator("#status").text_content()
    )
    assert caption.attention is not None
    share = f"{round(100 * float(caption.attention[1].max()))}\u00a0%"
    assert f"{share} of it in one cell of 8\u00a0×\u00a08" in tab.locator("#status").text_content()
    assert tab.locator("#map").get_attribute("data-word") == "1"
    tab.locator(".word").nth(0).tap()
    assert tab.locator("#map").get_attribute("data-word") == "0"
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#map").get_attribute("data-word") == "1"
    tab.keyboard.press("2")
    heading(tab, caption.alternatives[0].text)


def test_the_keyboard_reaches_everything_and_screen_readers_are_told(tab: Any) -> None:
    choose(tab, file(), file(1, "cat.png"))
    playwright.expect(tab.locator("#progress")).to_have_text("2 pictures captioned.")
    tab.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(14):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("files", "copy", "word", "play", "strength", "csv", "jsonl"):
        assert any(name in each for each in reached), name
    snapshot = tab.locator("main").aria_snapshot()
    for part in ('button "Choose pictures"', 'toolbar "Words', 'button "Save as CSV"', "status", 'slider "Strength'):
        assert part in snapshot


def test_several_pictures_are_listed_shown_and_saved(tab: Any, tiny: Captioner, tmp_path: Path) -> None:
    choose(tab, file(0, "=a,b.png"), file(1, "b.png"), file(2, "bad.png", b"no picture"), file(3, "c.png"))
    playwright.expect(tab.locator("#progress")).to_contain_text("3 pictures captioned.")
    assert "bad.png: is text: give an image file" in tab.locator("#progress").text_content()
    first, last = (tiny.caption(png(number), num_captions=5) for number in (0, 3))
    heading(tab, first.text)
    tab.locator("#photos button").nth(3).click()
    heading(tab, last.text)
    assert tab.locator("#photos button[aria-pressed=true]").text_content().endswith("c.png")

    with tab.expect_download() as download:
        tab.locator("#jsonl").click()
    download.value.save_as(tmp_path / "captions.jsonl")
    entries = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [entry["image"] for entry in entries] == ["=a,b.png", "b.png", "bad.png", "c.png"]
    assert entries[3]["caption"] == last.text
    assert "error" in entries[2]

    with tab.expect_download() as download:
        tab.locator("#csv").click()
    download.value.save_as(tmp_path / "captions.csv")
    with (tmp_path / "captions.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["caption"] for row in rows] == [first.text, entries[1]["caption"], "", last.text]
    assert rows[0]["image"] == "'=a,b.png"


def test_a_picture_that_the_browser_cannot_show_is_captioned(tab: Any, tiny: Captioner) -> None:
    buffer = BytesIO()
    Image.open(BytesIO(png())).save(buffer, "TIFF")
    choose(tab, {"name": "dog.tif", "mimeType": "image/tiff", "buffer": buffer.getvalue()})
    heading(tab, tiny.caption(png(), num_captions=5).text)


def test_hostile_names_show_as_text(tab: Any) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    choose(tab, file(0, name), file(1, "b.png"))
    playwright.expect(tab.locator("#progress")).to_have_text("2 pictures captioned.")
    assert tab.locator("#name").text_content() == name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_follows_the_color_scheme_and_fits_the_screen(tab: Any, scheme: str, width: int) -> None:
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 700})
    choose(tab, file(), file(1, "b.png"))
    playwright.expect(tab.locator("#progress")).to_have_text("2 pictures captioned.")
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(paper[4:].split(",")[0]) < 128) == (scheme == "dark")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_server_with_a_token_asks_for_it(tab: Any, tiny: Captioner) -> None:
    with serving(create_app(tiny, token=TOKEN)) as locked:
        tab.goto(locked)
        choose(tab, file())
        tab.locator("#token").fill("wrong")
        tab.keyboard.press("Enter")
        playwright.expect(tab.locator("#token")).to_have_value("")
        tab.locator("#token").fill(TOKEN)
        tab.keyboard.press("Enter")
        heading(tab, tiny.caption(png(), num_captions=5).text)
        playwright.expect(tab.locator("#token-form")).to_be_hidden()
        tab.goto("about:blank")


def test_a_server_that_has_gone_is_told(tab: Any, tiny: Captioner) -> None:
    gated = Gated(tiny)
    gated.gate.set()
    with serving(create_app(gated)) as address:  # type: ignore[arg-type]
        tab.goto(address)
    choose(tab, file())
    playwright.expect(tab.locator("#progress")).to_contain_text("dog.png: the server cannot be reached")
