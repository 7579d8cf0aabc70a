"""Ollama's and OpenAI's interfaces, asked by their own clients and by requests as they are documented."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import ollama
import openai
import pytest
from conftest import make_captioner
from PIL import Image
from serving import CLIENT, PATIENCE, png, serving

from captioner.caption import Caption
from captioner.pipeline import Captioner
from captioner.serve.app import create_app

NAME = "captioner"
TOKEN = "correct-horse"
PNG = base64.b64encode(png()).decode()


@pytest.fixture(scope="module")
def address(tiny: Captioner) -> Iterator[str]:
    with serving(create_app(tiny, token=TOKEN)) as address:
        yield address


@pytest.fixture(scope="module")
def caption(tiny: Captioner) -> Caption:
    return tiny.caption(png())


@pytest.fixture(scope="module")
def expected(caption: Caption) -> str:
    return caption.text


@pytest.fixture
def ollama_client(address: str) -> ollama.Client:
    return ollama.Client(address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE)


@pytest.fixture
def openai_client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0, timeout=PATIENCE) as client:
        yield client


def post(address: str, path: str, body: Any, **headers: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    return CLIENT.post(address + path, content=json.dumps(body), headers=headers)


def message(*addresses: str) -> list[Any]:
    pictures = [{"type": "image_url", "image_url": {"url": each}} for each in addresses]
    return [{"role": "user", "content": [{"type": "text", "text": "What is in this image?"}, *pictures]}]


def test_ollamas_client_generates(ollama_client: ollama.Client, caption: Caption) -> None:
    answer = ollama_client.generate(NAME, "Describe the picture.", images=[png()], options={"temperature": 0.05})
    assert (answer.response, answer.model, answer.done) == (caption.text, NAME, True)
    assert answer.eval_count == len(caption.word_log_probabilities)
    assert answer.total_duration is not None
    assert answer.total_duration > 0


def test_ollamas_client_streams(ollama_client: ollama.Client, expected: str) -> None:
    parts = list(ollama_client.generate(f"{NAME}:latest", "What?", images=[png()], stream=True))
    assert "".join(part.response or "" for part in parts) == expected
    assert len(parts) == len(expected.split()) + 1
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


@pytest.mark.parametrize("stream", [False, True])
def test_ollamas_client_chats(ollama_client: ollama.Client, expected: str, stream: bool) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "What is here?", "images": [png()]},
        {"role": "assistant", "content": "a dog"},
        {"role": "user", "content": "Say it again."},
    ]
    parts = list(ollama_client.chat(NAME, messages, stream=True)) if stream else [ollama_client.chat(NAME, messages)]
    assert "".join(part.message.content or "" for part in parts) == expected
    assert parts[-1].done


def test_ollamas_client_lists_and_shows(ollama_client: ollama.Client) -> None:
    [model] = ollama_client.list().models
    assert model.model == f"{NAME}:latest"
    shown = ollama_client.show(NAME)
    assert shown.license == "CC0"
    assert shown.capabilities is not None
    assert "vision" in shown.capabilities
    assert shown.modelinfo is not None
    assert shown.modelinfo["captioner.grid"] == [8, 8]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ({"model": "llava", "images": [png()]}, 404, "model 'llava' is not here; ask for 'captioner'"),
        ({"model": NAME, "images": [b"no picture"]}, 400, "image 1: is text: give an image file"),
        ({"model": NAME, "images": [png(), png()[:100]]}, 400, "image 2: "),
        ({"model": NAME, "prompt": "Why is the sky blue?"}, 400, "the request has no image"),
        ({"model": NAME, "images": [png()], "format": "json"}, 400, "this model writes plain captions"),
    ],
)
def test_ollamas_client_is_told_what_is_wrong(
    ollama_client: ollama.Client, arguments: dict[str, Any], status: int, said: str
) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        ollama_client.generate(**arguments)
    assert caught.value.status_code == status
    assert said in caught.value.error


def test_several_pictures_get_a_line_each(ollama_client: ollama.Client, tiny: Captioner) -> None:
    answer = ollama_client.generate(NAME, "What?", images=[png(1), png(2)])
    assert answer.response == f"{tiny.caption(png(1)).text}\n{tiny.caption(png(2)).text}"


def test_a_length_cuts_the_caption(ollama_client: ollama.Client, tiny: Captioner) -> None:
    answer = ollama_client.generate(NAME, "What?", images=[png()], options={"num_predict": 3})
    assert answer.response == tiny.caption(png(), max_words=3).text


@pytest.mark.parametrize(("seed", "reason"), [(9, "length"), (1, "stop")])
def test_the_end_of_a_caption_is_told_apart_from_a_cut(seed: int, reason: str) -> None:
    captioner = make_captioner(seed=seed)
    caption = captioner.caption(png())
    assert (len(caption.word_log_probabilities) > len(caption.words)) == (reason == "stop")
    with serving(create_app(captioner)) as address:
        assert ollama.Client(address, timeout=PATIENCE).generate(NAME, images=[png()]).done_reason == reason
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=PATIENCE) as client:
            answer = client.chat.completions.create(model=NAME, messages=message(f"data:image/png;base64,{PNG}"))
    assert answer.choices[0].finish_reason == reason


def test_a_request_as_photoprism_sends_it(address: str, expected: str) -> None:
    body = {
        "id": "3487da77-246e-4b4c-9437-67507177bcd7",
        "model": f"{NAME}:latest",
        "prompt": "Create a caption with exactly one sentence.",
        "suffix": "",
        "options": {"temperature": 0.05},
        "stream": False,
        "images": [PNG],
    }
    answer = post(address, "/api/generate", body, **{"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["response"] == expected


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json"])
def test_a_request_as_ollamas_documentation_has_it_streams(address: str, expected: str, kind: str) -> None:
    body = {"model": NAME, "prompt": "What is in this picture?", "images": [PNG]}
    answer = post(address, "/api/generate", body, **{"Content-Type": kind})  # curl -d calls it a form
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(line["response"] for line in lines) == expected
    assert {"created_at", "total_duration", "eval_count", "eval_duration"} <= set(lines[-1])


def test_a_request_to_load_the_model_is_answered(address: str) -> None:
    answer = post(address, "/api/generate", {"model": NAME}).json()
    assert (answer["response"], answer["done"], answer["done_reason"]) == ("", True, "load")


def test_openais_client_completes(openai_client: openai.OpenAI, caption: Caption) -> None:
    answer = openai_client.chat.completions.create(
        model=NAME, messages=message(f"data:image/png;base64,{PNG}"), temperature=0.7, logprobs=True
    )
    [choice] = answer.choices
    assert choice.message.content == caption.text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(caption.word_log_probabilities)
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    told = [token.logprob for token in choice.logprobs.content]
    assert told == pytest.approx(caption.word_log_probabilities[: len(caption.words)], abs=1e-3)


def test_openais_client_streams(openai_client: openai.OpenAI, caption: Caption) -> None:
    stream = openai_client.chat.completions.create(
        model=NAME,
        messages=message(f"data:image/png;base64,{PNG}"),
        stream=True,
        stream_options={"include_usage": True},
    )
    *parts, end, usage = list(stream)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == caption.text
    assert parts[0].choices[0].delta.role == "assistant"
    assert end.choices[0].finish_reason is not None
    assert usage.usage is not None
    assert usage.usage.completion_tokens == len(caption.word_log_probabilities)


def test_openais_client_gets_several_choices(openai_client: openai.OpenAI, tiny: Captioner) -> None:
    answer = openai_client.chat.completions.create(
        model=NAME, messages=message(f"data:image/png;base64,{PNG}"), n=3, stream=False
    )
    caption = tiny.caption(png(), num_captions=3)
    texts = [each.text for each in (caption, *caption.alternatives)]
    assert [choice.message.content for choice in answer.choices] == texts


def test_openais_client_lists_models(openai_client: openai.OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == [NAME]
    assert openai_client.models.retrieve(NAME).owned_by == "captioner"
    with pytest.raises(openai.NotFoundError, match="model 'gpt-4o' is not here"):
        openai_client.models.retrieve("gpt-4o")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("https://example.org/dog.jpg", "pictures are never fetched from an address (https:…)"),
        ("HTTP://127.0.0.1/health", "pictures are never fetched from an address (HTTP:…)"),
        ("file:///etc/hostname", "pictures are never fetched from an address (file:…)"),
        ("/etc/hostname", "a picture is no base64"),
        ("data:image/png,abc", "a data address holds no base64"),
        ("data:image/png;base64,", "a picture is empty"),
        ("data:image/png;base64,*", "a picture is no base64"),
        (f"data:image/png;base64,{base64.b64encode(b'no picture').decode()}", "image 1: is text"),
    ],
)
def test_openais_client_is_told_that_nothing_is_fetched_or_opened(
    openai_client: openai.OpenAI, given: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model=NAME, messages=message(given))
    assert said in str(caught.value.body)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/chat/completions", {"model": NAME, "messages": []}, "the messages hold no picture"),
        ("/v1/chat/completions", {"model": NAME}, "messages: Field required"),
        ("/v1/chat/completions", {"model": NAME, "messages": message(PNG), "n": 99}, "is 99"),
        (
            "/v1/chat/completions",
            {"model": NAME, "messages": message("x"), "response_format": {"type": "json_object"}},
            "this model writes plain captions",
        ),
        ("/api/generate", {"images": [PNG]}, "model: Field required"),
        ("/api/generate", {"model": NAME, "images": [5]}, "a picture is int; send its bytes as base64 text"),
        ("/api/generate", {"model": NAME, "images": "x"}, "images: Input should be a valid"),
        ("/api/chat", {"model": NAME, "messages": [{"images": 5}]}, "images is not a list"),
        ("/api/generate", [], "the body: "),
    ],
)
def test_wrong_requests_are_told_in_one_line(address: str, path: str, body: object, said: str) -> None:
    answer = post(address, path, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    line = error["message"] if path.startswith("/v1/") else error
    assert said in line
    assert "\n" not in line


def test_a_body_that_is_no_json_is_told_in_one_line(address: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = CLIENT.post(f"{address}/api/generate", content=b"{'model'", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the body: Invalid JSON")


def test_every_format_of_the_captioner_is_read_here_too(ollama_client: ollama.Client, tiny: Captioner) -> None:
    for name in ("JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        buffer = BytesIO()
        Image.open(BytesIO(png())).save(buffer, name)
        answer = ollama_client.generate(NAME, "What?", images=[buffer.getvalue()])
        assert answer.response == tiny.caption(buffer.getvalue()).text
