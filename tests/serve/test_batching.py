"""One queue: what shares a batch, what is given up, and that nothing is mixed up."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from serving import CLIENT, PATIENCE, Gated, connect, png, serving, until

from captioner.caption import Caption
from captioner.data.images import ImageSource
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.serve.app import create_app
from captioner.serve.batching import start_thread
from captioner.serve.limits import Limits


@pytest.fixture
def gated(tiny: Captioner) -> Iterator[Gated]:
    gated = Gated(tiny)
    yield gated
    gated.gate.set()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as clients:
        yield clients


def ask(address: str, content: bytes, **params: str) -> httpx.Response:
    return CLIENT.post(f"{address}/caption", content=content, params=params)


def hold(gated: Gated, clients: ThreadPoolExecutor, address: str) -> Future[httpx.Response]:
    """Occupies the network."""
    first = clients.submit(ask, address, png(99))
    until(lambda: len(gated.batches) == 1)
    return first


def queue(address: str) -> int:
    return int(CLIENT.get(f"{address}/health").json()["queue"])


def test_what_arrives_while_the_network_is_busy_shares_a_batch_and_each_gets_its_own(
    gated: Gated, clients: ThreadPoolExecutor, tiny: Captioner
) -> None:
    with serving(create_app(gated)) as address:  # type: ignore[arg-type]
        hold(gated, clients, address)
        numbers = range(8)
        asked = [clients.submit(ask, address, png(n) if n != 3 else b"no picture") for n in numbers]
        until(lambda: queue(address) == 9)
        gated.gate.set()
        answers = [each.result(PATIENCE) for each in asked]
    assert [len(images) for images, _ in gated.batches] == [1, 8]
    assert [answer.status_code for answer in answers] == [400 if n == 3 else 200 for n in numbers]
    for number, answer in zip(numbers, answers, strict=True):
        if number != 3:
            expected = tiny.caption(png(number))
            assert answer.json()["caption"] == expected.text
            assert answer.json()["log_probability"] == pytest.approx(expected.log_probability, abs=1e-3)


def test_options_that_differ_do_not_share_a_batch(gated: Gated, clients: ThreadPoolExecutor, tiny: Captioner) -> None:
    with serving(create_app(gated)) as address:  # type: ignore[arg-type]
        hold(gated, clients, address)
        asked = [clients.submit(ask, address, png(n), beam_size=str(1 + n % 2)) for n in range(6)]
        until(lambda: queue(address) == 7)
        gated.gate.set()
        answers = [each.result(PATIENCE).json() for each in asked]
    assert [len(images) for images, _ in gated.batches] == [1, 3, 3]
    for number, answer in enumerate(answers):
        assert answer["caption"] == tiny.caption(png(number), beam_size=1 + number % 2).text


def test_a_wide_beam_makes_batches_small(gated: Gated, clients: ThreadPoolExecutor) -> None:
    with serving(create_app(gated, limits=Limits(batch=4))) as address:  # type: ignore[arg-type]
        hold(gated, clients, address)
        asked = [clients.submit(ask, address, png(n), beam_size="10") for n in range(4)]
        until(lambda: queue(address) == 5)
        gated.gate.set()
        assert all(each.result(PATIENCE).status_code == 200 for each in asked)
    assert [len(images) for images, _ in gated.batches] == [1, 2, 2]


def test_a_full_queue_says_when_to_come_back(gated: Gated, clients: ThreadPoolExecutor) -> None:
    with serving(create_app(gated, limits=Limits(queue=2))) as address:  # type: ignore[arg-type]
        first = hold(gated, clients, address)
        second = clients.submit(ask, address, png(1))
        until(lambda: queue(address) == 2)
        refused = ask(address, png(2))
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"] == "2 pictures are waiting already, of at most 2; try again later"
        gated.gate.set()
        assert first.result(PATIENCE).status_code == second.result(PATIENCE).status_code == 200


def test_what_takes_too_long_is_given_up(gated: Gated, clients: ThreadPoolExecutor) -> None:
    with serving(create_app(gated, limits=Limits(seconds=1))) as address:  # type: ignore[arg-type]
        held = hold(gated, clients, address)
        waiting = clients.submit(ask, address, png(1))
        for answer in (held.result(PATIENCE), waiting.result(PATIENCE)):
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
            assert answer.json()["error"] == "no caption within 1 s; try again later"
        assert queue(address) == 1  # what the network is busy with
        gated.gate.set()
        until(lambda: queue(address) == 0)
    assert [images for images, _ in gated.batches] == [[png(99)]]


def test_the_network_never_sees_the_picture_of_a_client_that_left(gated: Gated, clients: ThreadPoolExecutor) -> None:
    with serving(create_app(gated)) as address:  # type: ignore[arg-type]
        first = hold(gated, clients, address)
        content = png(1)
        with connect(address) as connection:
            head = f"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.sendall(head.encode() + content)
            until(lambda: queue(address) == 2)
        until(lambda: queue(address) == 1)
        gated.gate.set()
        assert first.result(PATIENCE).status_code == 200
        assert ask(address, png(2)).status_code == 200
    assert [images for images, _ in gated.batches] == [[png(99)], [png(2)]]


class Breaking(Gated):
    """A captioner that fails whenever one of its pictures is the fatal one, which no captioner should."""

    def stream(
        self, images: Iterable[ImageSource], options: DecodingOptions | None = None, batch_size: int = 128
    ) -> Iterator[Caption | CaptionerError]:
        pictures = list(images)
        if png(13) in pictures:
            raise RuntimeError("beyond all expectation")
        return super().stream(pictures, options, batch_size)


def test_a_failure_of_a_whole_batch_reaches_only_the_picture_that_causes_it(
    tiny: Captioner, clients: ThreadPoolExecutor, capfd: pytest.CaptureFixture[str]
) -> None:
    breaking = Breaking(tiny)
    with serving(create_app(breaking)) as address:  # type: ignore[arg-type]
        hold(breaking, clients, address)
        asked = {number: clients.submit(ask, address, png(number)) for number in (11, 12, 13, 14)}
        until(lambda: queue(address) == 5)
        breaking.gate.set()
        answers = {number: each.result(PATIENCE) for number, each in asked.items()}
    assert {number: answer.status_code for number, answer in answers.items()} == {11: 200, 12: 200, 13: 500, 14: 200}
    assert answers[13].json() == {"error": "the server failed; its log says why"}
    assert "RuntimeError: beyond all expectation" in capfd.readouterr().err


class Noting(Gated):
    """Notes the thread that the network runs in."""

    def stream(
        self, images: Iterable[ImageSource], options: DecodingOptions | None = None, batch_size: int = 128
    ) -> Iterator[Caption | CaptionerError]:
        self.thread = threading.get_ident()
        return super().stream(images, options, batch_size)


def test_the_network_runs_in_the_thread_that_loaded_it(tiny: Captioner) -> None:
    thread = start_thread()
    loaded_in = thread.submit(threading.get_ident).result(PATIENCE)
    noting = Noting(tiny)
    noting.gate.set()
    with serving(create_app(noting, thread=thread)) as address:  # type: ignore[arg-type]
        assert ask(address, png()).status_code == httpx.codes.OK
    assert noting.thread == loaded_in != threading.get_ident()
