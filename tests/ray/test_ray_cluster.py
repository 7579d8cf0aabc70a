"""Captioning on a real cluster of this machine: two nodes, several actors, processes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shard_files import jpeg, write_tar

pytestmark = pytest.mark.slow

PICTURES = 200
BAD = range(7, PICTURES, 20)
"""Those of them that cannot be read."""
LONGEST = 600.0
"""Seconds that a command may take: the actors of a busy machine import torch at the same time."""


@dataclass(frozen=True)
class Nodes:
    """A running cluster.

    Attributes:
        environment: Of commands that it is to run.
        raylets: Processes whose children the actors are.
    """

    environment: dict[str, str]
    raylets: frozenset[int]

    def actors(self) -> list[int]:
        """The processes that caption shards."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdecimal() and b"CaptionShards" in (folder / "cmdline").read_bytes():
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    found += [int(folder.name)] if parent in self.raylets else []
        return found


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster of two nodes with three CPUs."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    from ray.cluster_utils import Cluster

    memory = 100_000_000
    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=memory)
        raylets = (node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes())
        root = str(Path(__file__).parents[2])
        yield Nodes({**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": root}, frozenset(raylets))
    finally:
        cluster.shutdown()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(PICTURES):
        file = folder / f"{number:03d}.png"
        if number in BAD:
            file.write_text("no picture")
        else:
            Image.effect_noise((30 + number, 40), number).save(file)
    write_tar(folder / "tar.tar", *((f"{number}.jpg", jpeg()) for number in range(5)))
    pq.write_table(pa.table({"jpg": [jpeg()] * 5}), folder / "rows.parquet")
    return folder


def names_in(many: Path) -> Counter[str]:
    own = [f"{number:03d}.png" for number in range(PICTURES)]
    own += [f"{file}/{number}{end}" for file, end in (("tar.tar", ".jpg"), ("rows.parquet", "")) for number in range(5)]
    return Counter(str(many / name) for name in own)


def command(many: Path, output: Path, checkpoint: Path, *more: str) -> list[str | Path]:
    own = ["--engine", "ray", "--output", str(output), "--model", str(checkpoint)]
    return [*processes.CAPTIONER, "caption", many, *own, "--shard-size", "2", "--batch-size", "2", *more]


def parts_in(output: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in output.glob("part-*")}


def test_killed_actors_and_a_killed_driver_lose_and_repeat_nothing(
    nodes: Nodes, many: Path, tmp_path: Path, checkpoint: Path
) -> None:
    output = tmp_path / "out"
    line = command(many, output, checkpoint)
    with processes.started(line, LONGEST, env=nodes.environment) as driver:
        processes.wait_until(lambda: len(parts_in(output)) >= 2, driver)
        [victim, *others] = nodes.actors()
        assert others
        os.kill(victim, signal.SIGKILL)
        done = len(parts_in(output))
        processes.wait_until(lambda: len(parts_in(output)) >= done + 4, driver)
        driver.kill()
    before = parts_in(output)
    assert 6 <= len(before) < 102
    again = processes.run([*line, "--resume"], LONGEST, env=nodes.environment, capture_output=True, text=True)
    assert again.returncode == 1, again.stderr
    assert "could not be captioned" in again.stderr
    after = parts_in(output)
    assert {name: after[name] for name in before} == before
    rows = pq.read_table(output).to_pylist()
    assert Counter(row["image"] for row in rows) == names_in(many)
    assert [Path(row["image"]).name for row in rows if row["error"]] == [f"{number:03d}.png" for number in BAD]
    assert not list(output.glob(".part-*"))


def test_ctrl_c_ends_the_command_and_its_actors(nodes: Nodes, many: Path, tmp_path: Path, checkpoint: Path) -> None:
    output = tmp_path / "out"
    line = command(many, output, checkpoint)
    with processes.started(line, LONGEST, env=nodes.environment, stderr=subprocess.PIPE, text=True) as driver:
        processes.wait_until(lambda: len(parts_in(output)) >= 2, driver)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(LONGEST) == 130
        assert driver.stderr is not None
        assert driver.stderr.read().splitlines()[-1] == "captioner: interrupted"
    ends = time.monotonic() + processes.LONGEST
    while nodes.actors() and time.monotonic() < ends:
        time.sleep(0.1)
    assert nodes.actors() == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--actors", "4"], "has room for 3"),
        (["--cpus-per-actor", "3"], "no machine of the cluster has more than 2 CPUs"),
        (["--device", "cuda"], "0 GPUs"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(
    nodes: Nodes, photos: Path, tmp_path: Path, checkpoint: Path, more: list[str], told: str
) -> None:
    line = command(photos, tmp_path / "out", checkpoint, *more)
    done = processes.run(line, LONGEST, env=nodes.environment, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert told in done.stderr


PIPELINE = """
import sys, ray
from captioner.ray import CaptionBatch

ray.init()
photos = ray.data.read_binary_files(sys.argv[1], include_paths=True)
captioned = photos.map_batches(
    CaptionBatch,
    fn_constructor_kwargs={"model": sys.argv[2], "column": "bytes"},
    batch_size=2,
    num_cpus=1,
    compute=ray.data.ActorPoolStrategy(size=1),
)
captioned.drop_columns(["bytes"]).write_parquet(sys.argv[3])
"""


def test_a_pipeline_of_ones_own_has_captions(nodes: Nodes, photos: Path, tmp_path: Path, checkpoint: Path) -> None:
    (photos / "3.png").write_text("no picture")
    line: list[str | Path] = [sys.executable, "-c", PIPELINE, photos, checkpoint, tmp_path / "out"]
    processes.run(line, LONGEST, env=nodes.environment, capture_output=True, check=True)
    rows = sorted(pq.read_table(tmp_path / "out").to_pylist(), key=lambda row: row["path"])
    assert [Path(row["path"]).name for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert [bool(row["caption"]) for row in rows] == [True, True, True, False]
    assert "is text" in rows[-1]["error"]
