"""Page and gallery as people use them, in a real browser without network."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import NEEDS_CHROMIUM, playwright
from PIL import Image

from captioner.caption import Caption
from captioner.visualize.gallery import Photograph, write_gallery
from captioner.visualize.overlay import palette, spread
from captioner.visualize.page import draw_page

pytestmark = NEEDS_CHROMIUM

WORDS = ("a", "dog", "runs", "on", "grass")
REGION = (0.2, 0.0, 0.8, 1.0)
ROWS, COLUMNS = 5, 7


def make_caption(words: tuple[str, ...], seed: int = 0, alternatives: tuple[Caption, ...] = ()) -> Caption:
    maps = np.random.default_rng(seed).random((len(words), ROWS, COLUMNS)) ** 4
    maps /= maps.sum(axis=(1, 2), keepdims=True)
    log_probabilities = (*(-0.5 * index for index in range(len(words))), -0.1)
    return Caption(words, log_probabilities, maps.astype(np.float32), REGION, alternatives)


CAPTION = make_caption(WORDS, alternatives=(make_caption(("two", "cats"), 1),))


@pytest.fixture
def tab(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """A tab that is offline; whatever it writes to its console or asks of the network fails the test.

    It is closed before the folder of its pages is removed.
    """
    context = chromium.new_context(viewport={"width": 1200, "height": 800}, has_touch=True)
    context.set_offline(True)
    context.set_default_timeout(5000)
    tab = context.new_page()
    troubles: list[str] = []
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("requestfailed", lambda request: troubles.append(request.url))
    tab.on("request", lambda request: troubles.extend(re.findall("^(?!file:|data:).*", request.url)))
    tab.on("dialog", lambda dialog: troubles.append(dialog.message))
    yield tab
    context.close()
    assert troubles == []


@pytest.fixture
def page(tab: Any, tmp_path: Path) -> Any:
    """The page of `CAPTION`, opened from disk."""
    file = tmp_path / "page.html"
    file.write_text(draw_page(Image.new("RGB", (300, 200), "gray"), CAPTION, "dog.jpg"))
    tab.clock.install(time=0)
    tab.clock.pause_at(1000)  # time passes when a test says so, not while a busy machine draws
    tab.goto(file.as_uri())
    return tab


def shown(page: Any) -> int | None:
    """The word whose map the page says that it shows."""
    word = page.locator("#map").get_attribute("data-word")
    assert page.locator("#picture").evaluate("element => element.classList.contains('mapped')") == (word is not None)
    return None if word is None else int(word)


def drawn(page: Any) -> tuple[np.ndarray, np.ndarray]:
    """The map as it is drawn, as shares of its peak, and which of its pixels are in no colour of the scale."""
    url = page.locator("#map").evaluate("canvas => canvas.toDataURL('image/png')")
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
    shares = {tuple(color): index / 255 for index, color in enumerate(palette().tolist())}
    field = np.array([[shares.get(tuple(pixel), -1.0) for pixel in row] for row in pixels.tolist()])
    return field, field < 0


def assert_shows(page: Any, caption: Caption, word: int) -> None:
    assert caption.attention is not None
    assert shown(page) == word
    field, unseen = drawn(page)
    expected = spread(caption.attention[word], REGION, field.shape[::-1])
    np.testing.assert_array_equal(unseen, np.isnan(expected))
    # The browser and Pillow go on beyond the outermost cells in two ways; between the others they agree.
    difference = np.abs(field - expected)[~unseen]
    assert difference.mean() < 0.02
    assert np.quantile(difference, 0.8) < 0.02


def test_pointing_at_a_word_shows_its_map_and_leaving_hides_it(page: Any) -> None:
    assert shown(page) is None
    for word in range(len(WORDS)):
        page.locator(".word").nth(word).hover()
        assert_shows(page, CAPTION, word)
    page.mouse.move(2, 2)
    assert shown(page) is None


def test_a_tap_keeps_the_map(page: Any) -> None:
    page.locator(".word").nth(3).tap()
    assert_shows(page, CAPTION, 3)
    page.locator(".word").nth(1).hover()
    assert shown(page) == 1
    page.mouse.move(2, 2)
    assert shown(page) == 3


def test_the_keyboard_reaches_everything(page: Any) -> None:
    page.keyboard.press("Tab")
    assert shown(page) == 0
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "a, log-probability 0.00"
    for key, word in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", 4),
        ("ArrowRight", 4),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert shown(page) == word
        assert page.evaluate("document.activeElement.textContent").startswith(WORDS[word])
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    assert shown(page) is None
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["play", "strength", "INPUT", "SUMMARY"]


@pytest.mark.parametrize("start", ["click", " ", "p"])
def test_playing_runs_through_the_words_and_stops_after_the_last(page: Any, start: str) -> None:
    if start == "click":
        page.locator("#play").click()
    else:
        page.keyboard.press(start)
    for word in range(len(WORDS)):
        assert shown(page) == word
        assert page.locator("#play").text_content() == "Pause"
        page.clock.run_for(900)
    assert shown(page) == len(WORDS) - 1
    assert page.locator("#play").text_content() == "Play"


def test_playing_can_be_paused_and_goes_on(page: Any) -> None:
    page.keyboard.press("p")
    page.clock.run_for(900)
    page.keyboard.press("p")
    page.clock.run_for(5000)
    assert shown(page) == 1
    page.keyboard.press(" ")
    assert shown(page) == 2


def test_another_caption_brings_its_own_maps(page: Any) -> None:
    page.locator("input[type=radio]").nth(1).check()
    assert page.locator("h1").text_content() == "two cats"
    assert page.locator("#photograph").get_attribute("alt") == "two cats"
    assert page.locator(".word").count() == 2
    page.locator(".word").nth(1).hover()
    assert_shows(page, CAPTION.alternatives[0], 1)
    page.keyboard.press("1")
    assert page.locator("h1").text_content() == CAPTION.text


def test_a_crop_is_explained(page: Any, tmp_path: Path) -> None:
    assert page.locator("#unseen").is_visible()
    whole = replace(CAPTION, region=(0.0, 0.0, 1.0, 1.0), alternatives=())
    (tmp_path / "whole.html").write_text(draw_page(Image.new("RGB", (30, 20)), whole, "x.jpg"))
    page.goto((tmp_path / "whole.html").as_uri())
    assert page.locator("#unseen").is_hidden()


def test_bars_and_status_tell_the_log_probability(page: Any) -> None:
    widths = page.eval_on_selector_all(
        ".bar", "bars => bars.map(b => b.firstChild.getBoundingClientRect().width / b.getBoundingClientRect().width)"
    )
    assert widths == pytest.approx([1 - index / 12 for index in range(5)], abs=0.02)
    page.locator(".word").nth(1).hover()
    status = page.locator("[role=status]").text_content()
    assert "“dog”, word 2 of 5: log-probability −0.50, a chance of 61\u00a0%" in status
    assert page.locator("#map").get_attribute("aria-label").startswith("Map of attention for “dog”, strongest at the ")


def test_status_tells_how_much_the_decoder_looked_away(tab: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    caption = replace(CAPTION, looking_away=(0.9, 0.25, 0.001, 0.5, 0.5))
    file.write_text(draw_page(Image.new("RGB", (300, 200), "gray"), caption, "dog.jpg"))
    tab.goto(file.as_uri())
    for word, told in ((1, "looked away by 25\u00a0%"), (2, "looked away by less than 1\u00a0%")):
        tab.locator(".word").nth(word).hover()
        assert told in tab.locator("[role=status]").text_content()


def test_every_control_has_a_name_for_screen_readers(page: Any) -> None:
    snapshot = page.locator("main").aria_snapshot()
    for part in (
        'heading "a dog runs on grass"',
        'img "a dog runs on grass"',
        'toolbar "Words of the caption',
        'button "dog, log-probability −0.50"',
        'button "Play"',
        'slider "Strength of the map',
        'radio "two cats',
    ):
        assert part in snapshot


def test_the_strength_of_the_map_can_be_changed(page: Any) -> None:
    page.locator(".word").first.tap()
    page.locator("#strength").fill("20")
    playwright.expect(page.locator("#map")).to_have_css("opacity", "0.2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_follows_the_color_scheme_and_fits_the_screen(page: Any, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 700})
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(paper[4:].split(",")[0]) < 128) == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.querySelector('.word')).transitionDuration") == "0s"
    box = page.locator("#photograph").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1.5, abs=0.02)
    assert page.locator("#map").bounding_box() == box


def test_hostile_words_and_names_show_as_text(tab: Any, tmp_path: Path) -> None:
    words = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "\u2028", "&amp;", "{{data}}")
    name = '"><img src=x onerror=alert(3)>\udce9.jpg'
    file = tmp_path / "page.html"
    file.write_text(draw_page(Image.new("RGB", (30, 20)), make_caption(words), name))
    tab.goto(file.as_uri())
    assert tab.locator(".word > :first-child").count() == 5
    for index, word in enumerate(words):
        assert tab.locator(".word").nth(index).evaluate("word => word.firstChild.data") == word
    assert tab.locator("img").count() == 1
    assert "<img src=x onerror=alert(3)>" in tab.locator("main").text_content()
    assert "<script>alert(1)</script>" in tab.title()


def test_a_caption_without_words_leaves_the_photograph(tab: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(draw_page(Image.new("RGB", (30, 20)), make_caption((), alternatives=(CAPTION,)), "x.jpg"))
    tab.goto(file.as_uri())
    assert tab.locator("h1").text_content() == "(no words)"
    for key in ("p", "ArrowRight", "Home"):
        tab.keyboard.press(key)
        assert shown(tab) is None
    tab.keyboard.press("2")
    tab.keyboard.press("ArrowRight")
    assert shown(tab) == 0


def test_a_gallery_leads_to_the_maps_and_back(tab: Any, tmp_path: Path) -> None:
    photographs = [
        Photograph(name, Image.new("RGB", (60, 40), color), make_caption((*words.split(),)))
        for name, color, words in (
            ("1.jpg", "red", "a dog"),
            ("<i>2.jpg", "green", "a <b>cat</b>"),
            ("3", "blue", "dogs"),
        )
    ]
    output = tmp_path / "all #1?.html"
    write_gallery(output, photographs, "Holiday")
    tab.goto(output.as_uri())
    assert tab.locator("#photos li").count() == 3
    assert tab.locator("#photos img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")

    tab.keyboard.press("/")
    tab.keyboard.type("A DOG")
    playwright.expect(tab.locator("#count")).to_have_text("1 of 3 photographs")
    assert tab.locator("#photos li:visible").all_text_contents() == ["a dog1.jpg"]
    tab.locator("#search").fill("<i>2 cat")
    playwright.expect(tab.locator("#photos li:visible")).to_have_text(["a <b>cat</b><i>2.jpg"])
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/00002.html")
    tab.locator(".word").nth(1).hover()
    assert shown(tab) == 1
    tab.go_back()
    assert tab.locator("#search").input_value() == "<i>2 cat"
    assert tab.locator("#photos li:visible").count() == 1
    tab.go_forward()
    tab.get_by_role("link", name="Next").click()
    tab.wait_for_url("**/00003.html")
    assert tab.get_by_role("link", name="Next").count() == 0
    tab.get_by_role("link", name="Gallery").click()
    tab.wait_for_url(output.as_uri())


def test_a_thousand_photographs_stay_usable(tab: Any, tmp_path: Path) -> None:
    write_gallery(
        tmp_path / "gallery.html",
        (
            Photograph(f"{number}.jpg", Image.new("RGB", (8, 6)), make_caption(("dog", f"number{number}")))
            for number in range(1000)
        ),
    )
    fetched: list[str] = []
    tab.on("request", lambda request: fetched.append(request.url))
    tab.goto((tmp_path / "gallery.html").as_uri())
    assert tab.locator("#photos li").count() == 1000
    assert 0 < sum(url.endswith(".jpg") for url in fetched) < 100
    tab.locator("#search").fill("number77")
    tab.locator("#count", has_text="11 of 1000 photographs").wait_for()
    assert tab.locator("#photos li:visible").count() == 11
