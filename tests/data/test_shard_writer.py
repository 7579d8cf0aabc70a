"""captioner pack, through the real command line: what is in the shards, and in which order it is learned from."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import webdataset

from captioner.cli import main
from captioner.data.caption_files import read_records
from captioner.data.sampler import DrawSampler
from captioner.data.shards import shard_sizes

PICTURES = 40


def pack(shapes: Path, output: Path, *more: str) -> int:
    return main(["pack", str(shapes / "captions.jsonl"), "--output", str(output), "--shard-size", "7", *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_hold_the_data_set(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in (shapes / "captions.jsonl").read_text().splitlines()]
    lines[0] |= {"captions": ["two", "captions"], "tags": [["dog", 0.5]], "human": False, "image_id": 7}
    (shapes / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["pack", str(shapes / "more.jsonl"), "--output", str(tmp_path), "--shard-size", "7"]) == 0
    expected = {each.image_id: each for each in read_records(shapes / "more.jsonl")}
    found = {each.image_id: each for each in read_records(tmp_path)}
    assert capsys.readouterr().out == f"{tmp_path}: 40 pictures in 7 shards\n"
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "test-000000.tar",
        *(f"train-{number:06d}.tar" for number in range(5)),
        "val-000000.tar",
    ]
    assert found.keys() == expected.keys()
    for name, record in expected.items():
        other = found[name]
        assert (other.captions, other.split) == (record.captions, record.split)
        assert (other.tags, other.human) == (record.tags, record.human)
    read = webdataset.WebDataset(sorted(map(str, tmp_path.iterdir())), shardshuffle=False)
    for sample in read:
        record = expected[json.loads(sample["json"])["image_id"]]
        assert sample["jpg"] == record.image.read_bytes()
        assert sample["txt"].decode().split("\n") == list(record.captions)


def test_training_pictures_are_shuffled_by_the_seed(shapes: Path, tmp_path: Path) -> None:
    orders = []
    for name, seed in (("one", "0"), ("again", "0"), ("other", "1")):
        assert pack(shapes, tmp_path / name, "--seed", seed) == 0
        orders.append([each.image_id for each in read_records(tmp_path / name) if each.split == "train"])
    assert contents(tmp_path / "one") == contents(tmp_path / "again")
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) != orders[0]


def test_what_a_former_run_wrote_stays(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert pack(shapes, output) == 0
    whole = contents(output)
    (output / "train-000002.tar").unlink()
    kept = (output / "train-000001.tar").stat().st_mtime_ns
    assert pack(shapes, output) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{output}: 40 pictures in 7 shards (6 were there)"
    assert contents(output) == whole
    assert (output / "train-000001.tar").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed", "1"], r"train-000000.tar is there and holds something else; write to another folder"),
        (["--shard-size", "40"], r"train-000001.tar is no shard of this data set; write to a folder of its own"),
        (["--shard-size", "0"], r"the size of a shard is 0; it must be at least 1"),
        (["--output", "{shapes}/images"], r"/images is in .*, which is read; write to another folder"),
        (["--output", "{shapes}/captions.jsonl"], r"captions.jsonl is in .*, which is read; write to another folder"),
        (["--images", "{shapes}/none"], r"image .* is missing \(40 of 40 images are\)"),
    ],
)
def test_mistakes_are_told(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert pack(shapes, tmp_path) == 0
    before = contents(tmp_path)
    folder = [str(shapes)] if "{shapes}/images" in options else [str(shapes / "captions.jsonl")]
    words = [word.format(shapes=shapes) for word in options]
    assert main(["pack", *folder, "--output", str(tmp_path), "--shard-size", "7", *words]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert re.search(told, captured.err)
    assert contents(tmp_path) == before


SIZES = [3, 1, 4, 2, 5] * 8
"""Pictures of 40 shards."""


def shard_of(image: int) -> int:
    return next(number for number in range(len(SIZES)) if image < sum(SIZES[: number + 1]))


def test_an_epoch_draws_from_few_shards_at_a_time_and_every_picture_once() -> None:
    sampler = DrawSampler(sum(SIZES), shuffle=True, shards=SIZES)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        drawn = [draw.image_index for draw in sampler]
        assert sorted(drawn) == list(range(sum(SIZES)))
        # Between the first and the last picture of a shard there are those of 15 others at most.
        for shard in range(len(SIZES)):
            places = [place for place, image in enumerate(drawn) if shard_of(image) == shard]
            assert len({shard_of(image) for image in drawn[places[0] : places[-1] + 1]}) <= 16
        neighbors = sum(shard_of(one) == shard_of(two) for one, two in pairwise(drawn))
        assert neighbors < len(drawn) / 4
        epochs.append(drawn)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_shards_in_as_many_steps_each_and_go_on_where_they_were(processes: int) -> None:
    whole = list(DrawSampler(sum(SIZES), shuffle=True, shards=SIZES))
    shares = []
    for rank in range(processes):
        share = list(DrawSampler(sum(SIZES), True, rank=rank, processes=processes, shards=SIZES))
        assert list(DrawSampler(sum(SIZES), True, (0, 6 * processes), rank, processes, SIZES)) == share[6:]
        shares.append(share)
    assert len({len(share) for share in shares}) == 1
    assert set().union(*shares) == set(whole)


def test_pictures_of_shards_in_a_row_are_counted(shapes: Path, tmp_path: Path) -> None:
    assert pack(shapes, tmp_path) == 0
    records = read_records(tmp_path, wanted=("train",))
    assert shard_sizes(record.image for record in records) == [7, 7, 7, 7, 4]
    assert shard_sizes([records[0].image, shapes / "images" / "00000.jpg"]) == []
