"""The server's own interface, asked as its users ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import CLIENT, metric, png, serving

from captioner.cli import main
from captioner.data.images import limit_pixels
from captioner.decoding import DecodingOptions
from captioner.pipeline import Captioner
from captioner.serve.app import create_app
from captioner.serve.limits import Limits


@pytest.fixture(scope="module")
def address(tiny: Captioner) -> Iterator[str]:
    with serving(create_app(tiny, limits=Limits(body_bytes=200_000, pictures=3))) as address:
        yield address


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    main(["caption", "--json", *arguments])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def comparable(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the folders of names, and numbers as far as batches of other sizes round them alike."""
    text = json.dumps([{**entry, "image": Path(entry["image"]).name} for entry in entries])
    rounded: list[dict[str, Any]] = json.loads(text, parse_float=lambda number: round(float(number), 4))
    return rounded


def test_pictures_get_what_the_command_line_prints(
    address: str, checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = printed(capsys, str(photos), "--model", str(checkpoint), "--num-captions", "2", "--precision", "float32")
    files = [("images", (path.name, path.read_bytes())) for path in sorted(photos.iterdir())]
    answer = CLIENT.post(f"{address}/caption", files=files, data={"num_captions": "2"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert comparable(answer.json()) == comparable(expected)


@pytest.mark.parametrize("kind", ["image/png", "application/x-www-form-urlencoded", "application/octet-stream", ""])
def test_bytes_get_one_object_whatever_they_are_called(address: str, tiny: Captioner, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = CLIENT.post(f"{address}/caption?beam_size=1", content=png(), headers=headers).json()
    assert answer["caption"] == tiny.caption(png(), beam_size=1).text
    assert set(answer) == {"image", "caption", "log_probability", "confidence"}


def test_a_form_with_one_image_gets_one_object(address: str) -> None:
    answer = CLIENT.post(f"{address}/caption", files={"image": ("a.png", png())}).json()
    assert answer["image"] == "a.png"


def test_maps_are_those_of_the_captioner(address: str, tiny: Captioner) -> None:
    answer = CLIENT.post(f"{address}/caption", params={"maps": "true", "num_captions": 2}, content=png()).json()
    caption = tiny.caption(png(), num_captions=2)
    for entry, expected in zip(answer["captions"], (caption, *caption.alternatives), strict=True):
        assert entry["words"] == list(expected.words)
        assert entry["word_log_probabilities"] == pytest.approx(expected.word_log_probabilities, abs=1e-4)
        assert expected.attention is not None
        np.testing.assert_allclose(entry["attention"], expected.attention, atol=1e-5)
        assert entry["region"] == list(expected.region)


def test_a_bad_picture_among_several_fails_alone(address: str, tiny: Captioner) -> None:
    files = [("images", ("a.png", png(1))), ("images", ("b.png", png(2)[:200])), ("images", ("c.png", png(3)))]
    answer = CLIENT.post(f"{address}/caption", files=files)
    assert answer.status_code == 200
    first, bad, last = answer.json()
    assert set(bad) == {"image", "error"}
    assert bad["error"].startswith("b.png: ")
    assert [first["caption"], last["caption"]] == [tiny.caption(png(1)).text, tiny.caption(png(3)).text]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"beam_size": "x"}, "beam_size is 'x'; it must be a whole number"),
        ({"beam_size": "0"}, "beam size is 0; it must be at least 1"),
        ({"beam_size": "1000"}, "beam_size is 1000; this server allows at most 20"),
        ({"max_words": "1000"}, "max_words is 1000"),
        ({"length_penalty": "nan"}, "length penalty is nan"),
        ({"beams": "3"}, "there is no option 'beams'; choose from maps, beam_size"),
        ({"maps": "perhaps"}, "maps is 'perhaps'; it must be true or false"),
        ({"sample": "2"}, "sample is '2'; it must be true or false"),
        ({"forbidden_words": "zebra"}, "'zebra', which the model does not know"),
        ({"prompt": "a zebra"}, "prompt has 'zebra', which the model does not know; use its words"),
        ({"num_captions": "9"}, "9 captions cannot come from a beam of 5"),
        ({"required_words": ",".join("abcdefghi")}, "required_words is 9; this server allows at most 8"),
    ],
)
def test_wrong_options_are_told_in_one_line(address: str, params: dict[str, str], said: str) -> None:
    answer = CLIENT.post(f"{address}/caption", params=params, content=png())
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_options_change_captions_as_they_do_in_python(address: str, tiny: Captioner) -> None:
    plain = tiny.caption(png())
    word = next(word for word in plain.words if word not in ("the", "red"))
    params = {"forbidden_words": word, "sample": "true", "seed": "3", "top_p": "0.9", "prompt": "the red"}
    answer = CLIENT.post(f"{address}/caption", params=params, content=png()).json()
    expected = tiny.caption(png(), forbidden_words=[word], sample=True, seed=3, top_p=0.9, prompt="the red")
    assert answer["caption"] == expected.text != plain.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"content": b""}, "the request has no image"),
        ({"files": {"photo": ("a.png", b"x")}}, "the form has a file as 'photo'; send a picture as image"),
        ({"files": {"beam_size": (None, "3")}}, "the form has no image"),
        ({"files": {"image": (None, "/etc/hostname")}}, "image is a text; send the content of an image file"),
        ({"files": [("image", ("a", b"x")), ("image", ("b", b"x"))]}, "send several as images"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "the form cannot be read"),
        ({"content": b"--b\r\nx", "headers": {"content-type": "multipart/form-data; boundary=b"}}, "the form "),
        ({"content": b"/etc/hostname"}, "image: is text: give an image file"),
        ({"content": b"https://example.org/a.jpg"}, "image: is text: give an image file"),
    ],
)
def test_what_is_no_picture_is_told_in_one_line(address: str, given: dict[str, Any], said: str) -> None:
    answer = CLIENT.post(f"{address}/caption", **given)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_too_many_pictures_are_refused(address: str) -> None:
    answer = CLIENT.post(f"{address}/caption", files=[("images", (f"{n}.png", png(n))) for n in range(4)])
    assert (answer.status_code, answer.json()) == (413, {"error": "a request may hold 3 pictures; send fewer"})


def test_too_many_pixels_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)
    limit_pixels(5000)
    answer = CLIENT.post(f"{address}/caption", content=png(size=(90, 60)))
    assert answer.status_code == 413
    assert "has more than 5,000 pixels" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nothing", 404, "/nothing is not served here"),
        ("GET", "/web/../app.py", 404, "is not served here"),
        ("GET", "/web/index.html", 404, "is not served here"),
        ("GET", "/caption", 405, "/caption does not take GET; use POST"),
    ],
)
def test_other_addresses_are_told_in_one_line(address: str, method: str, path: str, status: int, said: str) -> None:
    answer = CLIENT.request(method, address + path)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_health_and_metrics_tell_what_was_done(tiny: Captioner) -> None:
    with serving(create_app(tiny, name="pictures")) as address:
        CLIENT.post(f"{address}/caption", files=[("images", ("a", png())), ("images", ("b", b"no"))])
        health = CLIENT.get(f"{address}/health").json()
        assert (health["status"], health["model"], health["queue"]) == ("ok", "pictures", 0)
        text = CLIENT.get(f"{address}/metrics").text
        for line in (
            'captioner_requests_total{path="/caption",status="200"} 1.0',
            'captioner_pictures_total{outcome="captioned"} 1.0',
            'captioner_pictures_total{outcome="failed"} 1.0',
            "captioner_queue_pictures 0.0",
        ):
            assert line in text.splitlines()
        CLIENT.get(f"{address}/invented")
        assert 'path="other",status="404"' in CLIENT.get(f"{address}/metrics").text
        assert metric(address, "captioner_batch_pictures_sum") == 2


def test_openapi_tells_every_option_and_its_page_asks_for_nothing_else(address: str) -> None:
    schema = CLIENT.get(f"{address}/openapi.json").json()
    told = {each["name"] for each in schema["paths"]["/caption"]["post"]["parameters"]}
    assert told == {"maps", *DecodingOptions.__dataclass_fields__}
    page = CLIENT.get(f"{address}/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in schema["paths"]:
        assert path in page.text
    assert "//" not in page.text.replace("http://localhost:8000/", "")
