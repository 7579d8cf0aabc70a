"""What a request passes before it is read: token, size, time, and who may ask from a browser."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi.responses import StreamingResponse
from serving import CLIENT, PATIENCE, connect, png, port_of, serving

from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.serve.app import create_app
from captioner.serve.limits import Limits

TOKEN = "correct-horse"


@pytest.fixture(scope="module")
def locked(tiny: Captioner) -> Iterator[str]:
    app = create_app(tiny, token=TOKEN, origins=["https://photos.example"])
    with serving(app) as address:
        yield address


@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer é"])
@pytest.mark.parametrize("path", ["/caption", "/api/generate", "/v1/chat/completions"])
def test_without_the_token_nothing_is_captioned(locked: str, given: str | None, path: str) -> None:
    headers = {} if given is None else {b"Authorization": given.encode()}
    answer = CLIENT.post(locked + path, content=png(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "asks for a token" in str(answer.json()["error"])


@pytest.mark.parametrize("path", ["/metrics", "/api/tags", "/v1/models", "/docs", "/openapi.json"])
def test_without_the_token_nothing_is_told(locked: str, path: str) -> None:
    assert CLIENT.get(locked + path).status_code == 401
    assert CLIENT.get(locked + path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/web/serve.js"])
def test_the_page_and_health_are_open(locked: str, path: str) -> None:
    assert CLIENT.get(locked + path).status_code == 200


def test_the_token_opens(locked: str, tiny: Captioner) -> None:
    answer = CLIENT.post(f"{locked}/caption", content=png(), headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json()["caption"] == tiny.caption(png()).text


def test_scripts_of_named_sites_alone_may_ask(locked: str, tiny: Captioner) -> None:
    def allowed(address: str, origin: str) -> object:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        return CLIENT.options(f"{address}/caption", headers=headers).headers.get("access-control-allow-origin")

    assert allowed(locked, "https://photos.example") == "https://photos.example"
    assert allowed(locked, "https://other.example") is None
    with serving(create_app(tiny)) as address:
        assert allowed(address, "https://photos.example") is None


@pytest.fixture(scope="module")
def small(tiny: Captioner) -> Iterator[str]:
    with serving(create_app(tiny, limits=Limits(body_bytes=2000, total_bytes=3000))) as address:
        yield address


def answer_to(address: str, sent: bytes) -> bytes:
    """What a bare connection gets back."""
    with connect(address) as connection:
        connection.sendall(sent)
        received = b""
        end = time.monotonic() + PATIENCE
        while b"\r\n\r\n" not in received and time.monotonic() < end:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        return received


def test_an_announced_size_is_refused_before_it_is_sent(small: str) -> None:
    received = answer_to(small, b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_size_that_is_not_announced_is_refused_when_it_is_reached(small: str) -> None:
    head = b"POST /caption HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = answer_to(small, head + b"7d1\r\n" + 2001 * b"x")
    assert received.startswith(b"HTTP/1.1 413 ")
    body = CLIENT.post(f"{small}/caption", content=2001 * b"x").json()
    assert body == {"error": "the request has more than 2,000 bytes; send smaller pictures, or fewer"}


@pytest.mark.parametrize("fixture", ["small", "locked"])
def test_a_client_that_is_still_sending_gets_to_read_the_refusal(fixture: str, request: pytest.FixtureRequest) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(request.getfixturevalue(fixture)), timeout=PATIENCE)
    connection.request("POST", "/caption", bytes(20 * 2**20))
    response = connection.getresponse()
    assert response.status == (413 if fixture == "small" else 401)
    assert set(json.loads(response.read())) == {"error"}
    connection.close()


def test_a_body_that_does_not_arrive_is_given_up(tiny: Captioner) -> None:
    with serving(create_app(tiny, limits=Limits(seconds=0.5))) as address:
        received = answer_to(address, b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nxx")
    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("begin", [b"", b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-"])
@pytest.mark.parametrize("requests", [0, 1])
def test_a_header_that_does_not_arrive_holds_no_connection(tiny: Captioner, begin: bytes, requests: int) -> None:
    limits = Limits(seconds=0.3)
    with serving(create_app(tiny, limits=limits), limits) as address, connect(address) as connection:
        for _ in range(requests):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(begin)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass


def test_a_client_that_does_not_read_holds_no_connection(tiny: Captioner) -> None:
    limits = Limits(seconds=0.3)
    app = create_app(tiny, limits=limits)
    ended = threading.Event()

    @app.get("/large")
    async def large() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(1 << 20)
                    await asyncio.sleep(0)
            finally:
                ended.set()

        return StreamingResponse(parts())

    with serving(app, limits) as address, connect(address) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(PATIENCE)


def test_the_case_of_a_media_type_does_not_matter(small: str) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    content = head + png() + b"\r\n--x--\r\n"
    headers = {"Content-Type": "Multipart/Form-Data; boundary=x"}
    assert CLIENT.post(f"{small}/caption", content=content, headers=headers).json()["image"] == "a.png"


def test_bodies_together_are_limited_and_what_they_held_is_given_back(small: str) -> None:
    head = b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n"
    with connect(small) as one:
        one.sendall(head + 1500 * b"x")
        received = answer_to(small, head + 1600 * b"x")
        assert received.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in received.lower()
    assert CLIENT.post(f"{small}/caption", content=png()).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [{"body_bytes": 0}, {"pictures": -1}, {"seconds": float("inf")}, {"seconds": float("nan")}, {"window": 2.0}],
)
def test_limits_have_to_limit(wrong: dict[str, float]) -> None:
    with pytest.raises(CaptionerError, match="it must be"):
        Limits(**wrong)  # type: ignore[arg-type]
