"""The page that captions in browsers: Pillow's pixels, Python's captions, and what people do with it."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from browser import EACH_BROWSER
from browsers import CHROMIUM, FirefoxTab, firefox_tab
from conftest import make_captioner
from PIL import Image
from processes import CAPTIONER, run, started

import captioner
from captioner.cli import main
from captioner.data.transforms import Transform
from captioner.export.onnx_files import write_onnx
from captioner.export.page import to_text, write_page

ROOT = Path(__file__).parents[2]
RUNTIME = Path(os.environ.get("ONNXRUNTIME_WEB", ROOT / "node_modules" / "onnxruntime-web"))
SAMPLES = sorted((ROOT / "data" / "samples").glob("*.jpg"))
COCO = ROOT.parent / "shared" / "coco" / "val2017"
LIMIT = 120.0
"""Seconds that anything in the page may take, on a machine that is busy."""

pytestmark = [
    pytest.mark.slow,  # to write the page takes half a minute
    pytest.mark.skipif(not RUNTIME.is_dir(), reason=f"{RUNTIME} is not here: npm install onnxruntime-web"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "captioner.html"
    assert main(["export", "--output", str(path), "--onnxruntime-web", str(RUNTIME)]) == 0
    return path


def wait_for(tab: Any, condition: str, limit: float = LIMIT) -> None:
    # Not wait_for_function: it evaluates text in the page, which the content security policy refuses.
    end = time.monotonic() + limit
    while not tab.evaluate(condition):
        assert time.monotonic() < end, f"{condition} did not come true: {tab.evaluate(STATUS)}"
        time.sleep(0.05)


STATUS = "document.getElementById('status').innerText"
READY = "document.body.dataset.ready !== undefined"


@contextmanager
def opened(browser: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A tab of a browser, as wide as a phone."""
    if browser == "firefox":
        with firefox_tab() as tab:
            tab.set_viewport(390, 844)
            yield tab
        return
    context = request.getfixturevalue("chromium").new_context(viewport={"width": 390, "height": 844})
    context.set_default_timeout(1000 * LIMIT)
    yield context.new_page()
    context.close()


@contextmanager
def alone(browser: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A tab that is offline; what it writes to its console or asks of the network fails the test."""
    with opened(browser, request) as tab:
        wrong: list[str] = []
        if isinstance(tab, FirefoxTab):
            tab.set_offline()
        else:
            tab.context.set_offline(True)
            tab.on("console", lambda message: wrong.append(message.text))
            tab.on("pageerror", lambda error: wrong.append(str(error)))
            tab.on("request", lambda request: wrong.append(request.url))
        yield tab
        if isinstance(tab, FirefoxTab):
            wrong = [each["params"]["text"] for each in tab.events if each["method"] == "log.entryAdded"]
            wrong += [each["params"]["request"]["url"] for each in tab.events if each["method"].startswith("network")]
        assert not [line for line in wrong if not line.startswith(("file:", "blob:", "data:"))]


@pytest.fixture(scope="module", params=EACH_BROWSER)
def tab(request: pytest.FixtureRequest, page_file: Path) -> Iterator[Any]:
    """The page, opened from disk in each browser."""
    with alone(request.param, request) as tab:
        tab.goto(page_file.as_uri())
        wait_for(tab, READY)
        yield tab


def caption_in(tab: Any, files: list[Path]) -> list[dict[str, Any]]:
    before = tab.evaluate("results.length")
    tab.set_input_files("#files", list(map(str, files)))
    return results_from(tab, before, files)


def results_from(tab: Any, before: int, files: list[Path]) -> list[dict[str, Any]]:
    """What the page has for files that it was given when it had ``before`` results."""
    count, limit = before + len(files), LIMIT * (1 + len(files) // 20)
    wait_for(tab, f"results.length === {count} && results.every((each) => each.captions || each.error)", limit)
    found: list[dict[str, Any]] = tab.evaluate(
        f"results.slice({before}).map((r) => ({{name: r.name, error: r.error, captions: r.captions && "
        "r.captions.map((c) => ({text: c.text, values: c.values, confidence: c.confidence}))}))"
    )
    return found


def saved(tab: Any, button: str) -> str:
    if isinstance(tab, FirefoxTab):
        return tab.download(button).read_text(encoding="utf-8")
    with tab.expect_download() as download:
        tab.click(button)
    return Path(download.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("width", "height"), [(500, 333), (31, 640), (90, 200), (65, 66), (65, 67), (1, 7)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_pixels_are_scaled_as_pillow_scales_them(
    tab: Any, width: int, height: int, resize: Any, interpolation: Any
) -> None:
    image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))
    transform = Transform(64, resize, interpolation)
    rgba = base64.b64encode(image.convert("RGBA").tobytes()).decode()
    found = tab.evaluate(
        f"Array.from(resize(Uint8Array.from(atob('{rgba}'), (c) => c.charCodeAt(0)), {width}, {height}, "
        f"{list(transform.region(width, height))}, 64, FILTERS.{interpolation}))"
    )
    np.testing.assert_array_equal(np.reshape(found, (64, 64, 3)), np.asarray(transform.scale(image)))


def test_captions_and_alternatives_are_those_of_python(tab: Any) -> None:
    expected = captioner.load().caption(list(SAMPLES), num_captions=5)
    for found, caption in zip(caption_in(tab, SAMPLES), expected, strict=True):
        every = (caption, *caption.alternatives)
        assert [each["text"] for each in found["captions"]] == [each.text for each in every]
        for each, other in zip(found["captions"], every, strict=True):
            assert each["confidence"] == (other.confidence and pytest.approx(other.confidence, abs=1e-3))
        assert found["captions"][0]["values"] == pytest.approx(caption.word_log_probabilities, abs=1e-3)


@pytest.mark.shared_data
def test_captions_of_many_photographs_are_those_of_python(tab: Any) -> None:
    if not COCO.is_dir():
        pytest.skip(f"{COCO} is not here")
    photographs = [path for path in sorted(COCO.glob("*.jpg")) if not path.name.startswith(".")][:100]
    expected = captioner.load().caption(list(photographs))
    found = caption_in(tab, photographs)
    assert [each["captions"][0]["text"] for each in found] == [caption.text for caption in expected]


def test_words_show_attention_and_results_can_be_saved(tab: Any, tmp_path: Path) -> None:
    caption_in(tab, [SAMPLES[0]])
    word, pressed = "#list > li .words button", "document.querySelector('#list > li .words button').ariaPressed"
    map_is_shown = "document.querySelector('#list > li canvas').getClientRects().length > 0"
    assert not tab.evaluate(map_is_shown)
    tab.press(word, "Enter")
    assert tab.evaluate(pressed) == "true"
    assert tab.evaluate(map_is_shown)
    tab.press(word, "Enter")
    assert tab.evaluate(pressed) == "false"
    assert not tab.evaluate(map_is_shown)
    broken = tmp_path / '=cmd,"x".png'
    broken.write_bytes(b"no picture")
    [result] = caption_in(tab, [broken])
    assert result["error"] == "is no image that this browser reads; convert it to JPEG or PNG"
    assert tab.evaluate(STATUS) == f"{broken.name}: {result['error']}"
    rows = list(csv.DictReader(io.StringIO(saved(tab, "#csv"))))
    assert rows[-1]["image"] == '\'=cmd,"x".png'  # no program takes it for a formula
    lines = [json.loads(line) for line in saved(tab, "#jsonl").splitlines()]
    assert len(lines) == len(rows)
    assert lines[-2]["caption"] == captioner.load().caption(SAMPLES[0]).text
    assert lines[-1] == {"image": '=cmd,"x".png', "error": result["error"]}


TRANSFER = """(() => {
  const data = new DataTransfer(), content = Uint8Array.from(atob("CONTENT"), (letter) => letter.charCodeAt(0));
  data.items.add(new File([content], "given.jpg", { type: "image/jpeg" }));
  // Firefox lets no script fill a ClipboardEvent.
  const paste = Object.assign(new Event("paste", { bubbles: true }), { clipboardData: data });
  const drop = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data });
  document.body.dispatchEvent("WAY" === "paste" ? paste : drop);
})()"""


@pytest.mark.parametrize("way", ["drop", "paste", "photograph"])
def test_a_picture_is_dropped_pasted_or_photographed(tab: Any, way: str) -> None:
    before = tab.evaluate("results.length")
    if way == "photograph":
        tab.set_input_files("#camera", [str(SAMPLES[0])])
    else:
        content = base64.b64encode(SAMPLES[0].read_bytes()).decode()
        tab.evaluate(TRANSFER.replace("CONTENT", content).replace("WAY", way))
    [result] = results_from(tab, before, [SAMPLES[0]])
    assert result["name"] == (SAMPLES[0].name if way == "photograph" else "given.jpg")
    assert result["captions"][0]["text"] == captioner.load().caption(SAMPLES[0]).text


PASTED = """document.addEventListener("paste", (event) => {
  document.body.dataset.pasted = event.clipboardData.getData("text");
}, { once: true })"""


def test_another_caption_is_chosen_and_copied(tab: Any) -> None:
    [result] = caption_in(tab, [SAMPLES[0]])
    first, second = (each["text"] for each in result["captions"][:2])
    shown = "document.querySelector('.caption').innerText"
    assert tab.evaluate(shown) == first
    tab.click("summary")
    tab.click(".others li:nth-child(2) button")
    assert tab.evaluate(shown) == second
    tab.click(".copy")
    wait_for(tab, f"{STATUS} === 'Copied.'")
    if not isinstance(tab, FirefoxTab):  # whose clipboard is not read without a question to its user
        tab.evaluate(PASTED)
        tab.keyboard.press("Control+V")
        wait_for(tab, "document.body.dataset.pasted !== undefined")
        assert tab.evaluate("document.body.dataset.pasted") == second


def test_what_failed_has_nothing_to_copy(tab: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    caption_in(tab, [tmp_path / "broken.png"])
    buttons = "[...document.querySelectorAll('#list > li:first-child :is(button, details)')]"
    assert tab.evaluate(f"{buttons}.filter((each) => each.getClientRects().length).length") == 0


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page and graphs of a small model without attention."""
    folder = tmp_path_factory.mktemp("blind")
    # A seed without near ties, which the rounding of other arithmetic decides.
    make_captioner("none", seed=3).save(folder / "model.safetensors", dtype=torch.int8)
    write_page(folder / "page.html", folder / "model.safetensors", RUNTIME)
    write_onnx(folder / "model.onnx", folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", EACH_BROWSER)
def test_a_model_without_attention_says_so(name: str, request: pytest.FixtureRequest, blind: Path) -> None:
    with alone(name, request) as tab:
        tab.goto((blind / "page.html").as_uri())
        wait_for(tab, READY)
        [result] = caption_in(tab, [SAMPLES[0]])
        assert result["captions"][0]["text"] == captioner.load(blind / "model.safetensors").caption(SAMPLES[0]).text
        told = tab.evaluate("document.querySelector('.about').innerText")
        assert told.endswith("This model has no attention to show.")
        tab.press("#list .words button", "Enter")
        assert tab.evaluate("document.querySelector('#list canvas').getClientRects().length") == 0


@pytest.mark.parametrize("name", EACH_BROWSER)
def test_an_operator_that_is_missing_is_told_in_a_line(name: str, request: pytest.FixtureRequest, blind: Path) -> None:
    graph = onnx.load(blind / "model.step.onnx")
    graph.graph.node[0].op_type = "Unheard"
    step = to_text(gzip.compress(graph.SerializeToString()))
    page = (blind / "page.html").read_bytes().decode("utf-16")
    begin = page.index('id="step">') + len('id="step">')
    page = page[:begin] + step + page[page.index("</script>", begin) :]
    (blind / "other.html").write_bytes(page.encode("utf-16"))
    with opened(name, request) as tab:
        tab.goto((blind / "other.html").as_uri())
        wait_for(tab, f"{STATUS}.includes('cannot')")
        told = tab.evaluate(STATUS)
    assert told.startswith("The page cannot caption: ")
    assert "Unheard" in told
    assert "\n" not in told


def test_transparent_and_turned_pictures_are_read_as_python_reads_them(tab: Any, tmp_path: Path) -> None:
    photograph = Image.open(SAMPLES[-1]).convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    photograph.save(tmp_path / "turned.png", exif=turned)
    clear = photograph.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size).point(lambda value: 255 * (value > 127)))
    clear.save(tmp_path / "clear.png")
    files = [tmp_path / "turned.png", tmp_path / "clear.png"]
    expected = captioner.load().caption(list(files))
    assert [each["captions"][0]["text"] for each in caption_in(tab, files)] == [c.text for c in expected]


@pytest.mark.parametrize("name", EACH_BROWSER)
def test_text_of_any_bytes_passes_the_parser(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    text = to_text(np.arange(2**16, dtype="<u2").tobytes() + b"x")
    (tmp_path / "page.html").write_bytes(f"<script type=text/plain>{text}</script>".encode("utf-16"))
    with alone(name, request) as tab:
        tab.goto((tmp_path / "page.html").as_uri())
        assert tab.evaluate("document.querySelector('script').textContent === " + json.dumps(text))


@pytest.mark.parametrize("name", EACH_BROWSER)
def test_a_server_offers_it_beside_its_own_page(name: str, request: pytest.FixtureRequest, page_file: Path) -> None:
    expected = captioner.load().caption(SAMPLES[0]).text
    command = [*CAPTIONER, "serve", "--backend", "onnx", "--port", "0", "--page", str(page_file)]
    with started(command, stderr=subprocess.PIPE, text=True) as process, opened(name, request) as tab:
        assert process.stderr is not None
        address = re.search(r"http://\S+", process.stderr.readline())
        assert address
        tab.goto(address[0])
        tab.set_input_files("#files", [str(SAMPLES[0])])
        wait_for(tab, f"document.querySelector('h1').innerText === {json.dumps(expected)}")
        tab.goto(tab.evaluate("document.querySelector('a[href=\"page.html\"]').href"))
        wait_for(tab, READY)
        [found] = caption_in(tab, [SAMPLES[0]])
    assert found["captions"][0]["text"] == expected


CONNECTIONS = """Promise.allSettled([
  fetch("http://ADDRESS/fetch"), import("http://ADDRESS/import"), navigator.sendBeacon("http://ADDRESS/beacon"),
  ...["WebSocket:ws", "EventSource:http"].map((kind) => new Promise((resolve, reject) => {
    const [name, scheme] = kind.split(":"), opened = new window[name](`${scheme}://ADDRESS/socket`);
    opened.onopen = resolve;
    opened.onerror = reject;
  })),
  ...["img", "script"].map((name) => new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement(name), { onload: resolve, onerror: reject });
    element.src = "http://ADDRESS/element";
    document.body.append(element);
  })),
]).then(() => "tried")"""


@pytest.mark.parametrize("name", EACH_BROWSER)
def test_no_connection_is_made(name: str, request: pytest.FixtureRequest, page_file: Path, tmp_path: Path) -> None:
    (tmp_path / "without.html").write_text("<!doctype html><body>")
    with socket.create_server(("127.0.0.1", 0)) as server, opened(name, request) as tab:
        connections = CONNECTIONS.replace("ADDRESS", "{}:{}".format(*server.getsockname()))
        tab.goto(page_file.as_uri())
        wait_for(tab, READY)
        assert tab.evaluate(connections) == "tried"
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.accept()
        tab.goto((tmp_path / "without.html").as_uri())  # where they are allowed, they arrive
        tab.evaluate(f"void ({connections})")
        server.settimeout(LIMIT)
        server.accept()[0].close()


def test_the_page_is_small_and_allows_no_connection(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-16")
    assert page_file.stat().st_size <= 20_000_000
    assert "connect-src 'none'" in text
    assert "https://" not in text[: text.index("<script")]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_its_times_are_measured(page_file: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES[0], tmp_path)
    command = [sys.executable, str(ROOT / "tools" / "benchmarks" / "benchmark.py"), "page", "--page", str(page_file)]
    command += ["--photographs", str(tmp_path), "--repeats", "1", "--json"]
    outcome = json.loads(run(command, capture_output=True, text=True, check=True).stdout)
    assert outcome["rows"][0]["browser"] == "Chromium"
    assert outcome["rows"][0]["MB"] == page_file.stat().st_size / 1e6
    assert all(row["ready, s"] > 0 and row["a photograph, ms"] > 0 for row in outcome["rows"])
    assert outcome["targets"][0] == {"target": "MB", "at most": 22.0, "found": outcome["rows"][0]["MB"], "met": "yes"}
