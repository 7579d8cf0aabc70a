"""``captioner serve`` as a process: it starts, answers, ends, and says what is wrong."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import LONGEST
from serving import CLIENT, connect, png

import captioner.serve
from captioner.cli import main
from captioner.pipeline import Captioner

START = LONGEST
"""Seconds in which a process has to begin, on a machine with much else to do."""


class Process(NamedTuple):
    process: subprocess.Popen[str]
    address: str


@contextmanager
def started(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    command = [sys.executable, "-m", "captioner", "serve", "--port", "0", *arguments]
    environment = {**os.environ, **(environment or {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            os.set_blocking(process.stderr.fileno(), False)
            said = ""
            end = time.monotonic() + START
            while "serving at " not in said:
                assert time.monotonic() < end, said
                assert process.poll() is None, said
                with suppress(BlockingIOError):
                    said += os.read(process.stderr.fileno(), 65536).decode()
                time.sleep(0.02)
            yield Process(process, said.split("serving at ")[1].split()[0])
        finally:
            process.kill()


def test_sigterm_finishes_what_is_begun_and_takes_nothing_new(checkpoint: Path, tiny: Captioner) -> None:
    content = png(5)
    with started("--model", str(checkpoint), "--precision", "float32") as (process, address), connect(address) as late:
        assert CLIENT.get(f"{address}/health").json()["status"] == "ok"
        # Half of a request, so that the server has begun to read it.
        head = f"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        late.sendall(head.encode() + content[:50])
        for _ in range(3):
            CLIENT.get(f"{address}/health")
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + START
        while True:
            try:
                connect(address).close()
            except ConnectionRefusedError:
                break
            assert time.monotonic() < end
            time.sleep(0.05)
        assert process.poll() is None
        late.sendall(content[50:])
        received = b""
        while chunk := late.recv(65536):
            received += chunk
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert f'"caption":"{tiny.caption(content).text}"'.encode() in received
        assert process.wait(START) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999"], "port 99999 is none; choose one from 0 to 65535"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid:8000 is not an address to listen on"),
        (["--host", "203.0.113.7"], "203.0.113.7:8000 cannot be listened on"),
        (["--max-queue", "0"], "the limit of queue is 0; it must be positive"),
        (["--timeout", "inf"], "the limit of seconds is inf"),
        (["--beam-size", "50"], "beam_size is 50; this server allows at most 20"),
        (["--token-file", "nothing.txt"], "nothing.txt: No such file"),
        (["--token-file", os.devnull], "has no token"),
        (["--model", "nothing.safetensors"], "nothing.safetensors"),
        (["--page", "nothing.html"], "page nothing.html: No such file or directory; make a page with captioner export"),
        (["--page", os.devnull], f"page {os.devnull}: does not caption in a browser; make a page"),
        (["--cors", ""], "cors is an empty text"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    checkpoint: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)
    if "--model" not in arguments:
        arguments = [*arguments, "--model", str(checkpoint)]
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"captioner: 127.0.0.1:{port} cannot be listened on: Address already in use" in capsys.readouterr().err


def test_without_the_extra_the_command_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("captioner.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve"]) == 2
    assert "pip install 'captioner[serve]'" in capsys.readouterr().err


def test_the_server_itself_imports_no_torch() -> None:
    folder = Path(captioner.serve.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "torch"], file
