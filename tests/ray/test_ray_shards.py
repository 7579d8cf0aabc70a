"""Inputs of a cluster job, divided into shards, captioned, and written as parts: in one process, without Ray."""

from __future__ import annotations

import io
import json
import os
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shard_files import jpeg, write_tar

from captioner.caption import Caption, describe
from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.ray import CaptionBatch
from captioner.ray.cluster import Actors, fit
from captioner.ray.engine import Cluster, caption_on_ray
from captioner.ray.inputs import Wish, shards
from captioner.ray.parts import Parts
from captioner.ray.plan import read_plan, write_plan
from captioner.ray.worker import ATTEMPTS, CaptionShards, Work

COLORS = ("red", "green", "blue", "yellow", "black", "white", "orange")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with pictures of all kinds of input, and what is to be skipped."""
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    for color in COLORS:
        (folder / f"{color}.jpg").write_bytes(jpeg(color))
    (folder / "below" / "bad.png").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(jpeg())
    write_tar(folder / "tar.tar", ("a/1.jpg", jpeg("red")), ("a/1.txt", b"a dog"), ("a/2.png", b"no picture"))
    (folder / "damaged.tar").write_bytes(b"no tar" * 500)
    cells = [{"bytes": jpeg(color), "path": "p.jpg"} for color in COLORS]
    rows = pa.table({"id": range(8), "photo": [*cells, None]})
    pq.write_table(rows, folder / "bytes.parquet", row_group_size=2)
    pq.write_table(pa.table({"path": ["red.jpg", "none.jpg", "below/bad.png"]}), folder / "paths.parquet")
    return folder


def names_in(folder: Path) -> list[str]:
    """What the folder's rows are called."""
    own = [f"{color}.jpg" for color in COLORS] + ["below/bad.png", "damaged.tar", "tar.tar/a/1.jpg", "tar.tar/a/2.png"]
    own += [f"bytes.parquet/{row}" for row in range(8)] + ["red.jpg", "none.jpg", "below/bad.png"]
    return [str(folder / name) for name in own]


def caption_all(
    wish: Wish, output: str, checkpoint: Path, form: str = "parquet", begin: Callable[[int], int] = lambda shard: 1
) -> tuple[Parts, dict[str, list[Any]]]:
    """Plans a job, and does in this process what its actors do."""
    parts = Parts(output, form)
    write_plan(output, {}, shards(wish))
    plan = read_plan(output)
    assert plan is not None
    captioner: Mapping[str, Any] = {"model": str(checkpoint), "device": "cpu", "precision": "float32", "beam_size": 2}
    worker = CaptionShards(Work(parts, captioner, 4, wish.column, wish.keep), begin)
    places = {"shard": np.arange(plan.count), "start": plan.starts[:-1], "end": plan.starts[1:]}
    return parts, worker(places)


@pytest.mark.parametrize("address", ["memory://nothing/here", "memory://nothing/*.tar"])
def test_an_input_that_is_not_there_is_told(address: str, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(jpeg())
    with pytest.raises(CaptionerError, match=rf"^{re.escape(address)}: no such [^\n]*$"):
        list(shards(Wish((str(tmp_path), address), 10)))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_every_picture_is_in_exactly_one_part(mixed: Path, tmp_path: Path, checkpoint: Path, size: int) -> None:
    parts, told = caption_all(Wish((str(mixed),), size), str(tmp_path / "out"), checkpoint)
    rows = pq.read_table(parts.folder).to_pylist()
    assert Counter(row["image"] for row in rows) == Counter(names_in(mixed))
    assert sum(told["pictures"]) == len(rows)
    assert sum(told["errors"]) == sum(row["error"] is not None for row in rows) == 6
    assert all((row["caption"] is None) == (row["error"] is not None) for row in rows)


def test_rows_are_those_of_one_process(mixed: Path, tmp_path: Path, checkpoint: Path, tiny: Captioner) -> None:
    caption_all(Wish((str(mixed),), 100), str(tmp_path / "out"), checkpoint, "jsonl")
    lines = [json.loads(line) for file in sorted((tmp_path / "out").glob("part-*")) for line in file.open()]
    rows = {row["image"]: row for row in lines}
    for color in COLORS:
        name = str(mixed / f"{color}.jpg")
        expected = describe(name, tiny.caption(name, beam_size=2), 1)
        assert rows[name]["caption"] == expected["caption"]
        assert rows[name]["log_probability"] == pytest.approx(expected["log_probability"], abs=1e-3)
    assert rows[str(mixed / "below" / "bad.png")]["error"].endswith("is text: give an image file")
    assert "damaged or compressed tar file" in rows[str(mixed / "damaged.tar")]["error"]
    assert "no such file" in rows[str(mixed / "none.jpg")]["error"]
    assert "empty" in rows[str(mixed / "bytes.parquet") + "/7"]["error"]


def test_inputs_and_output_may_be_anywhere_that_fsspec_opens(tmp_path: Path, checkpoint: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/in/a/1.jpg", jpeg())
    memory.pipe("/in/.b/2.jpg", jpeg())
    memory.pipe("/in/3.tar", write_tar(tmp_path / "3.tar", ("x.jpg", jpeg())).read_bytes())
    memory.pipe("/lists/mine.txt", b"memory://in/a/1.jpg\nnone.jpg\n")
    wish = Wish(("memory://in", "memory://lists/mine.txt", "memory://in/*.tar"), 10)
    caption_all(wish, "memory://out", checkpoint, "jsonl")
    rows = [json.loads(line) for file in sorted(memory.glob("/out/part-*")) for line in memory.cat(file).splitlines()]
    tar = "memory:///in/3.tar/x.jpg"
    names = ["memory:///in/a/1.jpg", "memory://in/a/1.jpg", "memory://lists/none.jpg"]
    assert Counter(row["image"] for row in rows) == Counter([tar, tar, *names])
    assert [row["image"] for row in rows if "error" in row] == ["memory://lists/none.jpg"]
    assert all(os.path.basename(name).startswith((".plan", "part-")) for name in memory.ls("/out", detail=False))


def test_rows_of_paths_are_divided_and_those_of_bytes_only_between_groups(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["x.jpg"] * 10}), tmp_path / "paths.parquet", row_group_size=6)
    pq.write_table(pa.table({"jpg": [b"x"] * 10}), tmp_path / "bytes.parquet", row_group_size=6)
    found = {
        name: [(shard["first"], shard["count"]) for shard in shards(Wish((str(tmp_path / f"{name}.parquet"),), 4))]
        for name in ("paths", "bytes")
    }
    assert found == {"paths": [(0, 4), (4, 4), (8, 2)], "bytes": [(0, 6), (6, 4)]}


def test_columns_are_kept_with_their_types(mixed: Path, tmp_path: Path, checkpoint: Path) -> None:
    wish = Wish((str(mixed / "bytes.parquet"),), 4, "photo", ("id",))
    parts, _ = caption_all(wish, str(tmp_path / "out"), checkpoint)
    table = pq.read_table(parts.folder)
    assert table["id"].to_pylist() == list(range(8))
    assert table.schema.field("id").type == pa.int64()


@pytest.mark.parametrize(
    ("column", "keep", "told"),
    [("caption", (), "has no column"), ("id", (), "neither bytes nor paths"), (None, ("error",), "error")],
)
def test_a_wrong_column_is_told_before_the_work(mixed: Path, column: str | None, keep: Any, told: str) -> None:
    with pytest.raises(CaptionerError, match=told):
        list(shards(Wish((str(mixed / "bytes.parquet"),), 4, column, keep)))


def test_names_are_not_all_in_memory(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{number:0100d}.jpg\n" for number in range(50_000)))
    listed = shards(Wish((str(tmp_path / "list.txt"),), 100))
    next(listed)
    tracemalloc.start()
    try:
        count = 1 + sum(1 for _ in listed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 500
    assert peak < 1_000_000  # the names have 5 MB


def test_what_is_done_is_not_begun_again(mixed: Path, tmp_path: Path, checkpoint: Path) -> None:
    begun: list[int] = []

    def begin(shard: int) -> int:
        begun.append(shard)
        return 1

    wish, output = Wish((str(mixed),), 3), str(tmp_path / "out")
    _, first = caption_all(wish, output, checkpoint, begin=begin)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    begun.clear()
    _, second = caption_all(wish, output, checkpoint, begin=begin)
    assert begun == [1]
    assert second == first


def test_a_shard_that_cannot_be_had_is_left_out(tmp_path: Path, checkpoint: Path) -> None:
    write_tar(tmp_path / "in" / "1.tar", ("x.jpg", jpeg()))
    write_tar(tmp_path / "in" / "2.tar", ("x.jpg", jpeg()))
    wish = Wish((str(tmp_path / "in"),), 3)

    def begin(shard: int) -> int:
        (tmp_path / "in" / "2.tar").unlink(missing_ok=True)
        return 1

    parts, told = caption_all(wish, str(tmp_path / "out"), checkpoint, begin=begin)
    assert parts.done() == {0}
    assert "2.tar: no such file" in told["failure"][1]


def test_a_shard_that_ends_its_processes_is_given_up(tmp_path: Path, checkpoint: Path, photos: Path) -> None:
    parts, told = caption_all(
        Wish((str(photos),), 3), str(tmp_path / "out"), checkpoint, begin=lambda shard: ATTEMPTS + 1
    )
    assert parts.done() == set()
    assert str(photos / "0.png") in told["failure"][0]


def test_killed_processes_leave_no_file_of_theirs(tmp_path: Path) -> None:
    parts = Parts(str(tmp_path), "jsonl")
    (tmp_path / ".part-000000.jsonl.abc.part").write_text("half")
    parts.write(0, [{"image": "a.jpg", "error": "none"}], False, ())
    parts.clean()
    assert [file.name for file in tmp_path.iterdir()] == ["part-000000.jsonl"]
    assert parts.counts(0) == (1, 1)


def engine(photos: Path, output: Path, checkpoint: Path, how: str = "", **options: Any) -> None:
    work = Work(Parts(str(output), "parquet"), {"model": str(checkpoint), **options}, 4)
    made_with = {"option": options}
    caption_on_ray(Wish((str(photos),), 2), work, Cluster(), made_with, how == "resume", how == "overwrite", print)


def test_another_job_is_refused(photos: Path, tmp_path: Path, checkpoint: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(CaptionerError, match="is read; write to another folder"):
        engine(photos, photos / "out", checkpoint)
    (output / "mine").mkdir(parents=True)
    with pytest.raises(CaptionerError, match="holds mine"):
        engine(photos, output, checkpoint)
    (output / "mine").rmdir()
    caption_all(Wish((str(photos),), 2), str(output), checkpoint)
    with pytest.raises(CaptionerError, match="already has captions"):
        engine(photos, output, checkpoint)
    with pytest.raises(CaptionerError, match="another option and input"):
        engine(photos, output, checkpoint, "resume", beam_size=3)
    (output / ".plan.jsonl").write_text("{}")
    with pytest.raises(CaptionerError, match="is not the plan of a job"):
        engine(photos, output, checkpoint, "resume")


def test_what_the_model_cannot_do_is_told_before_a_cluster_is_asked(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="no such file"):
        engine(photos, tmp_path / "out", tmp_path / "none.safetensors")
    assert not (tmp_path / "out").exists()


ONE, TWO_GPUS = {"CPU": 8.0, "memory": 1e9}, {"CPU": 16.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("machines", "free", "asked", "expected"),
    [
        ([ONE], {"CPU": 8}, (None, None, 0), Actors(8, 1, 0)),
        ([ONE, ONE], {"CPU": 11}, (None, 3, 0), Actors(3, 3, 0)),
        ([ONE], {"CPU": 8}, (2, 4, 0), Actors(2, 4, 0)),
        ([ONE], {"CPU": 8}, (None, 0.1, 0), Actors(80, 0.1, 0)),
        ([ONE, TWO_GPUS], {"CPU": 24, "GPU": 2}, (None, None, 1), Actors(2, 8, 1)),
        ([TWO_GPUS], {"CPU": 16, "GPU": 2}, (None, None, 0.5), Actors(4, 4, 0.5)),
    ],
)
def test_as_many_actors_run_as_fit(machines: Any, free: Any, asked: Any, expected: Actors) -> None:
    assert fit(machines, free, *asked) == expected


@pytest.mark.parametrize(
    ("machines", "free", "asked", "told"),
    [
        ([ONE, ONE], {"CPU": 16}, (None, 9, 0), "needs 9 CPUs, but no machine of the cluster has more than 8 CPUs"),
        ([ONE], {"CPU": 8}, (None, None, 1), "0 GPUs"),
        ([ONE], {"CPU": 8}, (9, None, 0), "has room for 8"),
        ([ONE], {"CPU": 3}, (4, None, 0), "leaves room for 3 of 8"),
        ([ONE], {}, (None, None, 0), "leaves room for 0 of 8"),
        ([], {}, (None, None, 0), "no machine"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(machines: Any, free: Any, asked: Any, told: str) -> None:
    with pytest.raises(CaptionerError, match=told):
        fit(machines, free, *asked)


def test_a_batch_holds_pictures_of_any_kind(photos: Path, tmp_path: Path, checkpoint: Path, tiny: Captioner) -> None:
    file = photos / "0.png"
    array = np.asarray(Image.open(file).convert("RGB"))
    memory = fsspec.filesystem("memory")
    memory.pipe("/batch/0.png", file.read_bytes())
    cells: list[Any] = [file.read_bytes(), str(file), array, {"bytes": file.read_bytes(), "path": None}]
    cells += [{"bytes": None, "path": str(file)}, "memory://batch/0.png"]
    column = np.empty(len(cells) + 2, dtype=object)
    column[:] = [*cells, b"no picture", None]
    captions = CaptionBatch(str(checkpoint), column="photo", precision="float32", num_captions=2)
    made = captions({"photo": column, "id": np.arange(len(column))})
    expected: Caption = tiny.caption(file, num_captions=2)
    assert made["id"].tolist() == list(range(len(column)))
    assert made["caption"].tolist() == [expected.text] * len(cells) + ["", ""]
    assert made["log_probability"][: len(cells)] == pytest.approx(expected.log_probability, abs=1e-3)
    assert np.isnan(made["log_probability"][len(cells) :]).all()
    assert [bool(text) for text in made["error"]] == [False] * len(cells) + [True, True]
    assert made["captions"][0] == [expected.text, expected.alternatives[0].text]
    with pytest.raises(CaptionerError, match="no column 'photo' among id"):
        captions({"id": np.arange(1)})


def test_a_wrong_option_of_a_batch_is_told() -> None:
    with pytest.raises(CaptionerError, match="beam_sizes"):
        CaptionBatch(beam_sizes=3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engine", "ray"], "name their folder with --output"),
        (["--engine", "ray", "--output", "out", "--json"], "--json is of no use"),
        (["--engine", "ray", "--output", "out", "--shard-size", "0"], "--shard-size is 0"),
        (["--actors", "2"], "add --engine ray"),
    ],
)
def test_wrong_commands_are_told(
    photos: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(photos), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_several_captions_are_a_column(photos: Path, tmp_path: Path) -> None:
    caption = Caption(("a", "dog"), (-0.1, -0.2, -0.3), None, (0, 0, 1, 1))
    parts = Parts(str(tmp_path), "parquet")
    parts.write(0, [describe("a.jpg", caption, 2), describe("b.jpg", CaptionerError("damaged"), 2)], True, ())
    first, second = pq.read_table(io.BytesIO((tmp_path / "part-000000.parquet").read_bytes())).to_pylist()
    assert first["captions"] == [{"caption": "a dog", "log_probability": pytest.approx(-0.6), "confidence": None}]
    assert second == {
        **dict.fromkeys(("caption", "log_probability", "confidence", "captions")),
        "image": "b.jpg",
        "error": "damaged",
    }
