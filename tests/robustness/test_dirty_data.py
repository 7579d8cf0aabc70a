"""A data set as it is: training and evaluating on it equal those on its clean part, and tell what was skipped."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from make_shapes import write_shapes
from PIL import Image
from training_runs import small_config

from captioner.cli import main
from captioner.data.caption_files import read_records
from captioner.data.filters import MOST_WORDS, with_pictures, with_words
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError
from captioner.training.datamodule import CaptionData

PICTURES = 40

Line = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shapes(tmp_path / "set", PICTURES, seed=1, size=64)
    return tmp_path / "set"


def read_lines(folder: Path) -> list[Line]:
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


def write_lines(folder: Path, lines: list[Line], name: str = "captions.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def with_dirt(folder: Path) -> Path:
    """The data set with something of every kind between its entries."""
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<html>404 Not Found</html>")
    good = (folder / "images" / "00000.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    Image.new("RGB", (600, 500)).save(folder / "huge.png")
    for name in ("mute.jpg", "long.jpg"):
        (folder / name).write_bytes(good)
    clean = read_lines(folder)
    dirt: list[Line] = [
        *({"image": name, "captions": ["a red circle"]} for name in ("gone.jpg", "empty.jpg", "page.jpg", "cut.jpg")),
        {"image": "huge.png", "captions": ["a black wall"]},
        {"image": "mute.jpg", "captions": ["  ", "…!", "🐕😀", "&nbsp; &quot;"]},
        {"image": "long.jpg", "captions": ["dog " * 10_000]},
        {"image": 7.5, "captions": ["seven"]},
        {"image": "none.jpg"},
        {"image": "lost.jpg", "captions": ["a dog"], "split": "held"},
        {**clean[0], "captions": ["another caption of the same"]},
        {**clean[1], "image": "double.jpg", "image_id": clean[0]["image"]},
    ]
    lines: list[Line] = []
    for number, line in enumerate(clean):
        spoilt = {**line, "captions": [*line["captions"], "", 5]} if number == 3 else line
        lines += [spoilt, *dirt[number : number + 1]]
    return write_lines(folder, lines, "dirty.jsonl")


def train(captions: Path, run: Path, *options: str) -> int:
    trainer = {"default_root_dir": str(run), "max_epochs": 1}
    config = small_config(captions, {"trainer": trainer, "data": {"batch_size": 8}})
    file = run.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    return main(["train", "--config", str(file), *options])


@pytest.fixture(autouse=True)
def pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test sets, the process has no longer afterwards."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def test_training_on_dirty_data_is_training_on_its_clean_part(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder / "captions.jsonl", tmp_path / "clean") == 0
    assert "skipped" not in capsys.readouterr().err
    dirty = with_dirt(folder)
    assert train(dirty, tmp_path / "dirty", "--data.max_skipped", "0.3", "--data.max_pixels", "250000") == 0
    [told] = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    start, images, captions = re.split(r"(?: and )?\d+ (?:images|captions) \(", told.removesuffix(")"))
    assert start == f"captioner: {str(dirty)!r}: skipped "
    assert set(images.removesuffix(")").split("; ")) == {
        "4 unreadable: 'empty.jpg', 'page.jpg', 'cut.jpg', …",
        "2 of a wrong form: 'line 16', 'line 18'",
        "2 without a usable caption: 'mute.jpg', 'long.jpg'",
        "1 of an unknown split: 'lost.jpg'",
        "1 listed before: '00000.jpg'",
        "1 with the id of another: 'double.jpg'",
        "1 missing: 'gone.jpg'",
    }
    assert set(captions.split("; ")) == {
        "2 empty: '00003.jpg', 'mute.jpg'",
        "3 without words: 'mute.jpg', 'mute.jpg', 'mute.jpg'",
        "1 of a wrong form: 'images/00003.jpg'",
        "1 of more than 1,000 words: 'long.jpg'",
    }
    one, other = (safetensors.torch.load_file(tmp_path / run / "captioner.safetensors") for run in ("clean", "dirty"))
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


def test_evaluating_dirty_data_is_evaluating_its_clean_part(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(captions: Path, *options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        command = ["evaluate", "--data", str(captions), "--split", "train", "--model", str(checkpoint), "--json"]
        code = main([*command, "--beam-size", "1", *options])
        return code, *capsys.readouterr()

    clean = json.loads(evaluate(folder / "captions.jsonl")[1])
    broken = {"image": "cut.jpg", "captions": ["a red circle"], "split": "train"}
    gone = {"image": "gone.jpg", "captions": ["a red circle"], "split": "train"}
    foreign = {"image": "elsewhere.jpg", "captions": ["a red circle"], "split": "test"}  # not asked for, so not missed
    good = (folder / "images" / "00000.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    dirty = write_lines(folder, [broken, *read_lines(folder), gone, foreign], "dirty.jsonl")
    code, out, err = evaluate(dirty, "--max-skipped", "0.1")
    assert code == 0
    assert err == f"captioner: {str(dirty)!r}: skipped 2 images (1 missing: 'gone.jpg'; 1 unreadable: 'cut.jpg')\n"
    assert json.loads(out) == {**clean, "skipped": 2}

    code, out, err = evaluate(dirty)
    assert (code, out) == (2, "")
    assert "1 of 34 images of" in err


@pytest.mark.parametrize("bad", [1, 2])
def test_more_than_the_share_is_an_error(tmp_path: Path, bad: int) -> None:
    for number in range(100 - bad):
        (tmp_path / f"{number}.jpg").touch()
    lines: list[Line] = [{"image": f"{number}.jpg", "captions": ["a dog"]} for number in range(100)]
    file = write_lines(tmp_path, lines)
    skipped = Skipped(file, 0.01)
    records = read_records(file, skipped=skipped)
    if bad == 1:
        skipped.refuse_too_many(len(records), len(records))
        return
    with pytest.raises(CaptionerError) as raised:
        skipped.refuse_too_many(len(records), len(records))
    assert str(raised.value) == (
        f"2 of 100 images of {file} cannot be used (2 missing: '98.jpg', '99.jpg'; first error: image "
        f"{tmp_path / '98.jpg'} of {file} is missing (2 of 100 images are): put it there or give the right image "
        "folder), more than the share of 0.01 that may be skipped; fix the data or raise max_skipped"
    )


def test_the_first_of_the_kind_that_is_too_many_is_named(tmp_path: Path) -> None:
    file = tmp_path / "captions.csv"
    skipped = Skipped(file, 0.1)
    skipped.image("missing", "a.jpg", CaptionerError("an image"))
    for text in ("a caption", "another"):
        skipped.caption("empty", "b.jpg", CaptionerError(text))
    with pytest.raises(CaptionerError, match=r"^2 of 10 captions of .* first error: a caption\), more than"):
        skipped.refuse_too_many(images=9, captions=8)


COCO: Line = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": "2"}, {"id": 3, "file_name": "c.jpg"}, 4],
    "annotations": [
        {"image_id": 1, "caption": "كلب يجري"},
        {"image_id": 3, "caption": None},
        {"image_id": 9, "caption": "whose?"},
        "no object",
        {"image_id": 3, "caption": "\ud83d"},
    ],
}
KARPATHY: Line = {
    "images": [
        {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "狗在跑"}, {"tokens": []}, 1]},
        {"filename": "b.jpg", "split": "train", "sentences": {}},
        {"filename": None, "split": "train", "sentences": []},
        [],
    ]
}
CSV = "image,caption\na.jpg,a dog\nb.jpg,a dog, a cat\na.jpg\nc.jpg, \n,a cat\n"
TOKENS = "a.jpg#0\ta dog\nb.jpg a cat\n\tnothing\nc.jpg#0\t\n"


@pytest.mark.parametrize(
    ("content", "images", "captions"),
    [(json.dumps(COCO), 3, 4), (json.dumps(KARPATHY), 3, 2), (CSV, 2, 3), (TOKENS, 1, 3)],
    ids=["coco", "karpathy", "csv", "tokens"],
)
def test_entries_of_a_wrong_form_are_skipped_in_every_format(
    tmp_path: Path, content: str, images: int, captions: int
) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    file = tmp_path / "captions"
    file.write_text(content, encoding="utf-8-sig")
    skipped = Skipped(file, 1.0)
    [record] = read_records(file, split="train", skipped=skipped)
    assert record.image == tmp_path / "a.jpg"
    assert (skipped.images, skipped.captions) == (images, captions)


@pytest.mark.parametrize("content", [COCO, KARPATHY], ids=["coco", "karpathy"])
def test_a_file_that_is_cut_is_never_skipped(tmp_path: Path, content: Line) -> None:
    whole = json.dumps(content)
    file = tmp_path / "captions.json"
    for end in range(1, len(whole), 7):
        file.write_text(whole[:end])
        with pytest.raises(CaptionerError, match=r"captions.json is not JSON \(.* at column \d+\): if it was cut"):
            read_records(file, skipped=Skipped(file, 1.0))


def test_only_captions_that_can_be_learned_from_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    good = ["🐕 runs", "كلب يجري", "狗", "42", "dog " * MOST_WORDS, "x" * 100_000]
    bad = ["…", "()", "\u200f", "'' .", "-lrb-", "\U0001d4d7\U0001d4f2", "dog " * (MOST_WORDS + 1)]
    file = write_lines(tmp_path, [{"image": "a.jpg", "captions": [*good, *bad]}])
    skipped = Skipped(file, 1.0)
    [record] = with_words(read_records(file), skipped)
    assert record.captions == tuple(text.strip() for text in good)
    assert skipped.captions == len(bad)
    for text in bad:
        with pytest.raises(CaptionerError, match="has no words; remove it|has 1,001 words, more than 1,000; shorten"):
            with_words(read_records(write_lines(tmp_path, [{"image": "a.jpg", "captions": [text]}])), Skipped(file))


def test_pictures_that_cannot_be_read_are_found_without_decoding_the_others(tmp_path: Path) -> None:
    picture = Image.linear_gradient("L").convert("RGB")
    names = ["a.jpg", "b.png", "c.gif", "d.bmp", "e.webp"]
    for name in names:
        picture.save(tmp_path / name)
    shutil.copy(tmp_path / "a.jpg", tmp_path / "padded.jpg")  # as some cameras write it
    with (tmp_path / "padded.jpg").open("ab") as padded:
        padded.write(b"\0" * 64)
    for name in names:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(tmp_path / "pipe.jpg")
    found = sorted(path.name for path in tmp_path.iterdir())
    file = write_lines(tmp_path, [{"image": name, "captions": ["a wall"]} for name in found])
    records = with_pictures(read_records(file), Skipped(file, 1.0))
    assert [record.image.name for record in records] == [*names, "padded.jpg"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_picture_damaged_in_its_middle_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    Image.effect_noise((64, 64), 80).save(folder / "noise.png")
    content = bytearray((folder / "noise.png").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "noise.png").write_bytes(content)
    file = write_lines(folder, [*read_lines(folder), {"image": "noise.png", "captions": ["noise"]}], "more.jsonl")
    assert train(file, tmp_path / "run", "--data.workers", workers) == 2
    *_, told = capsys.readouterr().err.splitlines()
    assert told.startswith(f"captioner: {folder / 'noise.png'}: is damaged: ")


def test_a_run_does_not_go_on_when_an_image_is_lost(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (folder / "images" / "00000.jpg").read_bytes()
    # The words and their order stay as they are without the second.
    more: list[Line] = [{"image": "a.jpg", "captions": ["zebra " * 200]}, {"image": "b.jpg", "captions": ["zebra"]}]
    for line in more:
        (folder / line["image"]).write_bytes(good)
    file = write_lines(folder, [*read_lines(folder), *more], "more.jsonl")
    assert train(file, tmp_path / "run") == 0
    (folder / "b.jpg").unlink()
    capsys.readouterr()
    resume = ["--data.max_skipped", "0.1", "--resume", str(tmp_path / "run" / "last.ckpt")]
    assert train(file, tmp_path / "run", *resume) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("captioner: the checkpoint to resume from was trained on 34 images, of which 33 can be used")


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_a_share_that_is_none_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: str
) -> None:
    assert train(folder / "captions.jsonl", tmp_path / "run", "--data.max_skipped", share) == 2
    assert f"the share that may be skipped is {float(share)}; it must be" in capsys.readouterr().err


def test_an_image_of_two_caption_files_counts_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else it could be learned from and validated with."""
    lines = read_lines(folder)
    image = next(line["image"] for line in lines if line["split"] == "train")
    again = write_lines(folder, [{"image": f"./{image}", "captions": ["a red circle"], "split": "val"}], "again.jsonl")
    files = [str(folder / "captions.jsonl"), str(again)]
    with pytest.raises(
        CaptionerError, match=f"1 listed in another file.*{re.escape(image)} is in a caption file before"
    ):
        CaptionData(files).records  # noqa: B018
    records = CaptionData(files, max_skipped=1).records
    assert sum(len(part) for part in records.values()) == sum(line["split"] != "test" for line in lines)
    assert capsys.readouterr().err.endswith(f"skipped 1 images (1 listed in another file: {Path(image).name!r})\n")
