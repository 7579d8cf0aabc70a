"""The container file and the systemd unit, as far as they can be tried without an engine and without root."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from serving import CLIENT, png
from test_serve_command import START, started

from captioner.cli import serve
from captioner.pipeline import Captioner

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "captioner.service"

READ_ONLY = """
import os, sys

def refuse(event, arguments):
    path = arguments[0] if arguments else None
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    name = os.path.abspath(os.fsdecode(path))
    if name == os.devnull or name.startswith(os.environ["TMPDIR"]):
        return
    if event == "open":
        mode, flags = arguments[1] or "r", arguments[2]
        writes = set("wax+") & set(mode) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        writes = event in ("os.mkdir", "os.rename", "os.remove")
    if writes:
        raise OSError(30, "Read-only file system", name)

sys.addaudithook(refuse)
"""
"""A file system that cannot be written to but for its folder of temporary files, for one process of Python."""


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container file with their arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def arguments_of(command: list[str]) -> argparse.Namespace:
    """What ``captioner serve`` makes of a command."""
    assert Path(command[0]).name == "captioner"
    assert command[1] == "serve"
    parser = argparse.ArgumentParser(exit_on_error=False)
    serve.add_arguments(parser)
    return parser.parse_args(command[2:])


def test_the_image_installs_what_it_copies(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    for instruction, text in instructions():
        if instruction == "COPY" and not text.startswith("--from"):
            *names, target = text.split()
            for name in names:
                if (ROOT / name).is_dir():
                    ignore = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / name, tmp_path / target, symlinks=True, ignore=ignore)
                else:
                    shutil.copy(ROOT / name, tmp_path)
    build = "import setuptools.build_meta as build; print(build.build_wheel('wheel'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, timeout=START)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "wheel" / done.stdout.splitlines()[-1]) as wheel:
        packed = set(wheel.namelist())
        [metadata] = (wheel.read(name).decode() for name in packed if name.endswith("METADATA"))
    files = (ROOT / "captioner" / "serve").rglob("*.*")
    assert {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts} <= packed
    assert "captioner/visualize/web/page.js" in packed
    needed = re.findall(r"^Requires-Dist: ([\w-]+).*extra == .serve.", metadata, re.MULTILINE)
    assert {"fastapi", "uvicorn", "python-multipart"} <= set(needed)


def test_the_image_is_not_root_and_serves_others() -> None:
    kinds = dict(instructions())
    user, _, group = kinds["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    args = arguments_of(json.loads(kinds["ENTRYPOINT"]))
    assert (args.host, str(args.port)) == ("0.0.0.0", kinds["EXPOSE"])
    assert kinds["STOPSIGNAL"] == "SIGTERM"


def test_the_server_needs_no_disk_to_write_to_and_its_health_check_sees_it(
    checkpoint: Path, tiny: Captioner, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(READ_ONLY)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    variables = dict(pair.split("=") for pair in dict(instructions())["ENV"].split()[1:])
    environment = {"PYTHONPATH": str(tmp_path), **variables, "TMPDIR": str(temporary)}
    model = ("--model", str(checkpoint), "--precision", "float32")
    with started(*model, environment=environment) as (_, address):
        large = png() + bytes(3 * 2**20)  # more than forms keep in memory elsewhere
        answer = CLIENT.post(f"{address}/caption", files={"image": ("a.png", large)})
        assert answer.json()["caption"] == tiny.caption(png()).text
        assert CLIENT.get(address).status_code == 200
        check = json.loads(dict(instructions())["HEALTHCHECK"].partition("CMD ")[2])
        line = check[2].replace("http://127.0.0.1:8000", address)
        assert line != check[2]
        subprocess.run([sys.executable, "-c", line], check=True, timeout=START)
    assert subprocess.run([sys.executable, "-c", line], capture_output=True, timeout=START).returncode != 0


def test_the_unit_starts_the_server_and_waits_for_its_end() -> None:
    [command] = re.findall(r"^ExecStart=(.*)", UNIT.read_text(), re.MULTILINE)
    args = arguments_of(shlex.split(command))
    assert args.host == "127.0.0.1"
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) > args.timeout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/captioner/bin/captioner", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=START
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])
