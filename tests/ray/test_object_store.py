"""Inputs, output and resuming on an object store: S3, spoken by a server on this machine."""

from __future__ import annotations

import io
import json
import os
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_files import jpeg, write_tar
from test_ray_shards import caption_all

from captioner.errors import CaptionerError
from captioner.ray.inputs import Wish, shards
from captioner.ray.plan import read_plan

moto = pytest.importorskip("moto.server", reason="needs moto, a server of S3")
pytest.importorskip("s3fs", reason="needs s3fs, which opens s3://")

LONGEST = 300.0
"""Seconds that a command may take: it starts a cluster."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The file system of a store with pictures of all kinds of input."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**access, "ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    type(store).clear_instance_cache()
    with urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", b"", processes.LONGEST):
        pass  # what the server of another test holds, this one would too
    for bucket in ("pictures", "captions"):
        store.mkdir(bucket)
    store.pipe("pictures/in/below/1.jpg", jpeg())
    store.pipe("pictures/in/bad.png", b"no picture")
    store.pipe("pictures/in/.hidden.jpg", jpeg())
    store.pipe("pictures/in/2.tar", write_tar(tmp_path / "2.tar", ("x.jpg", jpeg()), ("y.jpg", jpeg())).read_bytes())
    table = io.BytesIO()
    pq.write_table(pa.table({"jpg": [jpeg()] * 3}), table, row_group_size=1)
    store.pipe("pictures/in/3.parquet", table.getvalue())
    try:
        yield store
    finally:
        type(store).clear_instance_cache()
        server.stop()


NAMES = ["2.tar/x.jpg", "2.tar/y.jpg", "3.parquet/0", "3.parquet/1", "3.parquet/2", "bad.png", "below/1.jpg"]


def rows_of(store: Any, folder: str) -> list[dict[str, Any]]:
    store.invalidate_cache()
    files = sorted(store.glob(f"{folder}/part-*"))
    return [json.loads(line) for file in files for line in store.cat(file).splitlines()]


def test_every_picture_of_a_store_is_captioned_once_and_what_is_missing_is_done_again(
    store: Any, tmp_path: Path, checkpoint: Path
) -> None:
    wish, output, begun = Wish(("s3://pictures/in",), 1), "s3://captions/out", list[int]()

    def begin(shard: int) -> int:
        begun.append(shard)
        return 1

    _, told = caption_all(wish, output, checkpoint, "jsonl", begin)
    rows = rows_of(store, "captions/out")
    assert Counter(row["image"] for row in rows) == Counter(f"s3://pictures/in/{name}" for name in NAMES)
    assert [row["image"] for row in rows if "error" in row] == ["s3://pictures/in/bad.png"]
    assert sum(told["pictures"]) == len(NAMES)
    store.rm_file("captions/out/part-000002.jsonl")
    begun.clear()
    _, again = caption_all(wish, output, checkpoint, "jsonl", begin)
    assert (begun, again) == ([2], told)
    assert rows_of(store, "captions/out") == rows
    left = {os.path.basename(name).partition("-")[0] for name in store.ls("captions/out", detail=False)}
    assert left == {".plan.jsonl", "part"}


@pytest.mark.parametrize("address", ["s3://none/in", "s3://pictures/none.txt", "s3://pictures/none.parquet"])
def test_what_is_not_in_a_store_is_told_in_one_line(store: Any, address: str) -> None:
    with pytest.raises(CaptionerError) as raised:
        list(shards(Wish((address,), 1)))
    assert address in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_store_that_lets_nobody_in_is_told_in_one_line(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(store).clear_instance_cache()
    with pytest.raises(CaptionerError, match=r"^s3://captions/out/\.plan\.jsonl: cannot be read: [^\n]*$"):
        read_plan("s3://captions/out")


@pytest.mark.slow
def test_the_command_line_reads_and_writes_a_store(store: Any, checkpoint: Path) -> None:
    own = ["--engine", "ray", "--output", "s3://captions/out", "--format", "jsonl", "--actors", "1"]
    line: list[str | Path] = [*processes.CAPTIONER, "caption", "s3://pictures/in", *own, "--model", checkpoint]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = processes.run(line, LONGEST, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "1 of them could not be captioned" in done.stderr
    rows = rows_of(store, "captions/out")
    assert Counter(row["image"] for row in rows) == Counter(f"s3://pictures/in/{name}" for name in NAMES)
    again = processes.run([*line, "--resume"], LONGEST, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert rows_of(store, "captions/out") == rows
