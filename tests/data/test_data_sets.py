"""Data sets as they are unpacked, trained on through the real command: COCO's folders, several sets, drawn splits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli import main
from captioner.data.caption_files import read_records
from captioner.data.split_files import draw_validation
from captioner.errors import CaptionerError
from captioner.training.datamodule import CaptionData

SMALL = [
    *("--data.min_count", "1", "--data.workers", "0", "--trainer.fast_dev_run", "true"),
    *("--model.encoder.last_stage", "blocks.2", "--model.encoder.weights", "none", "--model.encoder.image_size", "32"),
    *("--model.decoder.embedding_size", "8", "--model.decoder.hidden_size", "8", "--model.decoder.attention_size", "8"),
]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO 2017 as it is unzipped, with two pictures a split; their names do not tell which."""
    (tmp_path / "annotations").mkdir()
    for first, part in ((1, "train2017"), (3, "val2017")):
        images = []
        for number in (first, first + 1):
            name = f"{number:012}.jpg"
            picture(tmp_path / part / name)
            images.append({"id": number, "file_name": name, "coco_url": f"http://images.cocodataset.org/{part}/{name}"})
        captions = [{"id": 9, "image_id": image["id"], "caption": "a red square"} for image in images]
        file = tmp_path / "annotations" / f"captions_{part}.json"
        file.write_text(json.dumps({"info": {"year": 2017}, "images": images, "annotations": captions}))
    return tmp_path


@pytest.mark.parametrize("images", [".", "[train2017,val2017]", None])
def test_coco_is_trained_on_as_it_is_unzipped(
    coco: Path, images: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(coco)
    files = "[annotations/captions_train2017.json,annotations/captions_val2017.json]"
    folder = ["--data.images", images] if images else []
    assert main(["train", "--data.captions", files, *folder, *SMALL, "--trainer.default_root_dir", "run"]) == 0
    assert "skipped" not in capsys.readouterr().err


@pytest.mark.parametrize("addresses", [True, False])
def test_a_split_of_coco_is_found_by_its_addresses_or_by_the_name_of_the_file(coco: Path, addresses: bool) -> None:
    file = coco / "annotations" / "captions_val2017.json"
    if not addresses:
        content = json.loads(file.read_text())
        for image in content["images"]:
            del image["coco_url"]
        file.write_text(json.dumps(content))
    assert [record.image.parent.name for record in read_records(file, coco)] == ["val2017", "val2017"]


def test_a_wrong_folder_of_coco_is_told_with_the_one_of_the_addresses(coco: Path) -> None:
    with pytest.raises(CaptionerError, match="give the right image folder; its address names the folder val2017"):
        read_records(coco / "annotations" / "captions_val2017.json", coco / "train2017")


def test_an_address_leads_nowhere_else(coco: Path) -> None:
    file = coco / "annotations" / "captions_val2017.json"
    content = json.loads(file.read_text())
    picture(coco.parent / "secret.jpg")
    content["images"] = [{"id": 3, "file_name": "secret.jpg", "coco_url": "http://x/../secret.jpg"}]
    content["annotations"] = content["annotations"][:1]
    file.write_text(json.dumps(content))
    with pytest.raises(CaptionerError, match="is missing"):
        read_records(file, coco)


def test_several_data_sets_have_a_folder_each(tmp_path: Path) -> None:
    for name, part in (("one", "train"), ("two", "val")):
        picture(tmp_path / name / "pictures" / "a.jpg")
        (tmp_path / f"{name}.csv").write_text(f"image,caption,split\na.jpg,a dog,{part}\n")
    files = [str(tmp_path / "one.csv"), str(tmp_path / "two.csv")]
    data = CaptionData(files, [str(tmp_path / "one" / "pictures"), str(tmp_path / "two" / "pictures")])
    assert [record.image.relative_to(tmp_path).parts[0] for part in data.records.values() for record in part] == [
        "one",
        "two",
    ]
    with pytest.raises(
        CaptionerError, match="data.images lists 1 folders for 2 caption files; give one for all, or one"
    ):
        CaptionData(files, ["one"])


@pytest.fixture
def unsplit(tmp_path: Path) -> Path:
    rows = []
    for number in range(10):
        picture(tmp_path / f"{number}.jpg")
        rows.append(f"{number}.jpg,a dog\n")
    (tmp_path / "captions.txt").write_text("image,caption\n" + "".join(rows))
    return tmp_path / "captions.txt"


def names(data: CaptionData, split: str) -> set[str]:
    return {record.image.name for record in data.records[split]}


def test_a_validation_split_is_drawn_by_a_seed(unsplit: Path) -> None:
    drawn = [CaptionData(str(unsplit), val_share=0.3, val_seed=seed) for seed in (0, 0, 1)]
    assert names(drawn[0], "val") == names(drawn[1], "val") != names(drawn[2], "val")
    assert len(names(drawn[0], "val")) == 3
    assert names(drawn[0], "train") | names(drawn[0], "val") == {f"{number}.jpg" for number in range(10)}
    assert not names(drawn[0], "train") & names(drawn[0], "val")


@pytest.mark.parametrize(("share", "count"), [(0.001, 1), (0.999, 9), (0.5, 5)])
def test_something_is_left_on_both_sides(unsplit: Path, share: float, count: int) -> None:
    drawn = draw_validation(read_records(unsplit), share, seed=0)
    assert sum(record.split == "val" for record in drawn) == count


def test_what_was_drawn_is_evaluated_on(
    unsplit: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "0.jpg").write_bytes(b"")  # training passes over it, so it is not drawn from either
    training = CaptionData([str(unsplit)], val_share=0.3, val_seed=4, max_skipped=0.1)
    drawn = ["--val-share", "0.3", "--val-seed", "4", "--max-skipped", "0.1"]
    evaluate = ["evaluate", "--model", str(checkpoint), "--data", str(unsplit), "--output", str(tmp_path / "out.json")]
    for split, more in (("val", []), ("train", ["--split", "train"])):
        assert main([*evaluate, *drawn, *more]) == 0
        measured = {entry["image_id"] for entry in json.loads((tmp_path / "out.json").read_text())}
        assert measured == names(training, split)
    capsys.readouterr()
    assert main([*evaluate, *drawn, "--split", "test"]) == 2
    assert "split 'test' is not drawn; choose val" in capsys.readouterr().err
    assert main([*evaluate, "--val-share", "1"]) == 2
    assert "the share drawn for validation is 1.0; it must be" in capsys.readouterr().err
    assert main(evaluate) == 2
    assert "or have the images that training drew by --val-share" in capsys.readouterr().err
    unsplit.write_text("image,caption,split\n1.jpg,a dog,train\n2.jpg,a cat,val\n")
    assert main([*evaluate, *drawn]) == 2
    assert "has a split 'val', beside which none is drawn" in capsys.readouterr().err


def test_each_file_gives_its_share(unsplit: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "captions.csv"
    for number in range(4):
        picture(other.parent / f"{number}.png")
    other.write_text("image,caption\n" + "".join(f"{number}.png,a cat\n" for number in range(4)))
    both = CaptionData([str(other), str(unsplit)], val_share=0.5)
    alone = CaptionData([str(unsplit)], val_share=0.5)
    assert {name for name in names(both, "val") if name.endswith("jpg")} == names(alone, "val")
    assert len(names(both, "val")) == 7


def test_a_file_without_validation_split_is_told_how_to_have_one(
    unsplit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data.captions", str(unsplit), *SMALL, "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "no image is in split 'val'; training needs some: add a column split, name a folder of split files" in told
    only_val = tmp_path / "only.csv"
    only_val.write_text(unsplit.read_text().replace("caption\n", "caption,split\n").replace("dog\n", "dog,val\n"))
    assert main([command[0], command[1], str(only_val), *command[3:]]) == 2
    told = capsys.readouterr().err
    assert "no image is in split 'train'; training needs some: write train for those to train on, or omit the" in told
    assert main([*command, "--data.val_share", "0.2"]) == 0
    assert main([*command, "--data.val_share", "1.0"]) == 2
    assert "data.val_share is 1.0; it must be greater than 0 and less than 1" in capsys.readouterr().err


@pytest.mark.parametrize("files", [("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt"), ("train.txt", "val.txt")])
def test_split_files_go_with_any_file_that_names_no_split(unsplit: Path, files: tuple[str, str]) -> None:
    folder = unsplit.parent / "splits"
    folder.mkdir()
    test = "Flickr_8k.testImages.txt" if files[0].startswith("Flickr") else "test.txt"
    for name, images in ((files[0], "2.jpg\n1.jpg\n"), (files[1], "images/3.jpg\n"), (test, "4.jpg\n")):
        (folder / name).write_text(images)
    data = CaptionData(str(unsplit), splits=str(folder))
    assert (names(data, "train"), names(data, "val")) == ({"1.jpg", "2.jpg"}, {"3.jpg"})


def test_a_share_is_not_drawn_beside_a_split_that_is_there(unsplit: Path) -> None:
    unsplit.write_text("image,caption,split\n1.jpg,a dog,train\n2.jpg,a cat,val\n")
    with pytest.raises(CaptionerError, match=r"data.val_share is 0.5, but .* have images in split 'val'; leave it out"):
        CaptionData(str(unsplit), val_share=0.5).records  # noqa: B018
