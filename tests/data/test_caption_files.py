"""captioner/data/caption_files.py and formats.py: five formats, one record form, one line for each mistake."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from processes import run

from captioner.data.caption_files import read_records
from captioner.data.records import Record
from captioner.errors import CaptionerError

SHARED = Path(__file__).parents[2].parent / "shared"


def karpathy(*images: dict[str, object]) -> dict[str, object]:
    usual = {"split": "train", "sentences": [{"raw": "a dog"}]}
    return {"images": [{**usual, **image} for image in images], "dataset": "flickr8k"}


def coco(images: Sequence[tuple[object, str]], captions: Sequence[tuple[object, object]]) -> dict[str, object]:
    return {
        "images": [{"id": image_id, "file_name": name} for image_id, name in images],
        "annotations": [{"id": 9, "image_id": image_id, "caption": text} for image_id, text in captions],
    }


class Folder:
    """A folder with pictures and one caption file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pictures(self, *names: str) -> None:
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).touch()

    def write(self, content: object, name: str = "captions.json") -> Path:
        file = self.path / name
        text = content if isinstance(content, str) else json.dumps(content)
        file.write_bytes(text.encode())
        return file

    def splits(self, train: str = "a.jpg\n", val: str = "b.jpg\n", test: str = "c.jpg\n") -> None:
        for name, content in (("train", train), ("dev", val), ("test", test)):
            self.write(content, f"Flickr_8k.{name}Images.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(CaptionerError) as raised:
        read()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_karpathy_flickr8k(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("images/a.jpg", "images/b.jpg")
    file = folder.write(
        karpathy(
            {"filename": "a.jpg", "imgid": 0, "sentences": [{"raw": "A dog ."}, {"raw": "dog", "tokens": ["dog"]}]},
            {"filename": "b.jpg", "imgid": 1, "split": "test"},
        )
    )
    assert read_records(file, tmp_path / "images") == [
        Record(tmp_path / "images/a.jpg", ("A dog .", "dog"), "train", 0),
        Record(tmp_path / "images/b.jpg", ("a dog",), "test", 1),
    ]


def test_karpathy_coco(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("val2014/x.jpg", "train2014/x.jpg")
    file = folder.write(
        karpathy(
            {"filename": "x.jpg", "filepath": "val2014", "cocoid": 7, "imgid": 0, "split": "restval"},
            {"filename": "x.jpg", "filepath": "train2014", "cocoid": 8, "imgid": 1, "split": "val"},
        )
    )
    assert read_records(file) == [
        Record(tmp_path / "val2014/x.jpg", ("a dog",), "train", 7),
        Record(tmp_path / "train2014/x.jpg", ("a dog",), "val", 8),
    ]


def test_karpathy_without_ids_takes_the_path(folder: Folder) -> None:
    folder.pictures("some/a.jpg")
    assert read_records(folder.write(karpathy({"filename": "a.jpg", "filepath": "some"})))[0].image_id == "some/a.jpg"


def test_coco(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("images/a.jpg", "images/b.jpg")
    file = folder.write(coco([(5, "b.jpg"), (3, "a.jpg")], [(3, "one"), (5, "two"), (3, "three\n")]))
    assert read_records(file, tmp_path / "images") == [
        Record(tmp_path / "images/b.jpg", ("two",), "train", 5),
        Record(tmp_path / "images/a.jpg", ("one", "three"), "train", 3),
    ]


@pytest.mark.parametrize(
    ("name", "given", "split"),
    [
        ("captions_val2017.json", None, "val"),
        ("captions_train2014.json", None, "train"),
        ("my-TEST.json", None, "test"),
        ("training_of_latest_value.json", None, "train"),
        ("captions_val2017.json", "test", "test"),
    ],
)
def test_coco_split_comes_from_the_argument_else_the_file_name(
    folder: Folder, name: str, given: str | None, split: str
) -> None:
    folder.pictures("a.jpg")
    file = folder.write(coco([(3, "a.jpg")], [(3, "one")]), name)
    assert read_records(file, split=given)[0].split == split


TOKENS = "a.jpg#0\tA dog .\na.jpg#1\tdog\nb.jpg#0\tA cat #1 .\nc.jpg#0\tA cow\nc.jpg.1#0\tno such picture\n"


def test_flickr8k(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("images/a.jpg", "images/b.jpg", "images/c.jpg")
    folder.splits()
    assert read_records(folder.write(TOKENS, "Flickr8k.token.txt"), tmp_path / "images") == [
        Record(tmp_path / "images/a.jpg", ("A dog .", "dog"), "train", "a.jpg"),
        Record(tmp_path / "images/b.jpg", ("A cat #1 .",), "val", "b.jpg"),
        Record(tmp_path / "images/c.jpg", ("A cow",), "test", "c.jpg"),
    ]


def test_flickr8k_split_files_elsewhere_with_windows_line_ends(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "text").mkdir()
    Folder(tmp_path / "text").splits(train="a.jpg\r\n\r\n")
    file = folder.write(TOKENS.replace("\n", "\r\n"), "tokens.txt")
    assert [record.split for record in read_records(file, splits=tmp_path / "text")] == ["train", "val", "test"]


def test_flickr8k_with_one_split_for_all(folder: Folder) -> None:
    folder.pictures("a.jpg", "b.jpg")
    file = folder.write("a.jpg#0\tA dog\nb.jpg#0\tA cat\n", "tokens.txt")
    assert [record.split for record in read_records(file, split="val")] == ["val", "val"]


def test_csv(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("a.jpg", "b.jpg")
    rows = 'split,Image,caption,source\ntrain,a.jpg,"a dog, ""Rex""",x\nval,b.jpg,cat,x\n\ntrain,a.jpg,"two\nlines",x\n'
    assert read_records(folder.write(rows, "captions.csv")) == [
        Record(tmp_path / "a.jpg", ('a dog, "Rex"', "two lines"), "train", "a.jpg"),
        Record(tmp_path / "b.jpg", ("cat",), "val", "b.jpg"),
    ]


def test_csv_without_splits(folder: Folder) -> None:
    folder.pictures("a.jpg")
    assert read_records(folder.write("image,caption\r\na.jpg,a dog\r\n", "test.csv"))[0].split == "test"


@pytest.mark.parametrize("lines", [1, 2])
def test_jsonl(folder: Folder, tmp_path: Path, lines: int) -> None:
    folder.pictures("a.jpg", "b.jpg")
    text = '{"image": "a.jpg", "captions": ["one"], "split": "val"}\n{"image": "b.jpg", "captions": ["two"]}\n'
    wanted = [
        Record(tmp_path / "a.jpg", ("one",), "val", "a.jpg"),
        Record(tmp_path / "b.jpg", ("two",), "train", "b.jpg"),
    ]
    file = folder.write("".join(text.splitlines(keepends=True)[:lines]), "captions.jsonl")
    assert read_records(file) == wanted[:lines]


def test_the_name_of_the_file_does_not_matter(folder: Folder) -> None:
    folder.pictures("a.jpg")
    assert len(read_records(folder.write(karpathy({"filename": "a.jpg"}), "captions.csv"))) == 1


@pytest.mark.parametrize("content", [karpathy({"filename": "a.jpg"}), "image,caption\na.jpg,a dog\n"])
def test_a_byte_order_mark_is_accepted(folder: Folder, content: object) -> None:
    folder.pictures("a.jpg")
    text = content if isinstance(content, str) else json.dumps(content)
    assert len(read_records(folder.write(f"\ufeff{text}"))) == 1


def test_line_breaks_within_a_caption_become_spaces(folder: Folder) -> None:
    folder.pictures("a.jpg")
    file = folder.write(karpathy({"filename": "a.jpg", "sentences": [{"raw": " A  dog\r\nand\na\u2028cat. \n"}]}))
    assert read_records(file)[0].captions == ("A  dog and a cat.",)


def test_paths_may_be_relative_to_the_working_folder(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.pictures("a.jpg", "sub/b.jpg")
    folder.write(karpathy({"filename": "a.jpg"}, {"filename": "sub/../sub/b.jpg"}))
    monkeypatch.chdir(tmp_path)
    assert [record.image for record in read_records(Path("captions.json"))] == [Path("a.jpg"), Path("sub/b.jpg")]


def test_an_absolute_path_stands_where_no_folder_is_given(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("far/a.jpg")
    file = folder.write(f"image,caption\n{tmp_path / 'far/a.jpg'},a dog\n")
    assert read_records(file)[0].image == tmp_path / "far/a.jpg"


def test_a_linked_image_folder_is_followed(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("far/a.jpg")
    (tmp_path / "images").symlink_to(tmp_path / "far")
    assert len(read_records(folder.write(karpathy({"filename": "a.jpg"})), tmp_path / "images")) == 1


def test_a_link_in_a_circle_hides_no_picture(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("a.jpg")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    file = folder.write('{"image": "a.jpg", "captions": ["a dog"]}')
    assert [record.image for record in read_records(file)] == [tmp_path / "a.jpg"]


def test_reading_loads_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "lightning", "numpy", "PIL")
    code = f"import sys, captioner.data.caption_files; print([name for name in {heavy} if name in sys.modules])"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_missing_images_are_counted(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("images/b.jpg", "images/dir/x")
    file = folder.write(
        karpathy({"filename": "a.jpg"}, {"filename": "b.jpg"}, {"filename": "c.jpg"}, {"filename": "dir"})
    )
    assert refused(lambda: read_records(file, tmp_path / "images")) == (
        f"image {tmp_path / 'images/a.jpg'} of {file} is missing (3 of 4 images are): "
        "put it there or give the right image folder"
    )


def test_a_missing_image_folder_is_all_images_missing(folder: Folder, tmp_path: Path) -> None:
    file = folder.write(karpathy({"filename": "a.jpg"}))
    assert "(1 of 1 images are)" in refused(lambda: read_records(file, tmp_path / "nowhere"))


@pytest.mark.parametrize("caption", ["", " \n", "\u3000"])
def test_an_empty_caption_is_named(folder: Folder, caption: str) -> None:
    folder.pictures("a.jpg")
    file = folder.write(karpathy({"filename": "a.jpg", "sentences": [{"raw": "a dog"}, {"raw": caption}]}))
    assert refused(lambda: read_records(file)) == f"caption 2 of a.jpg in {file} is empty: write one or take it out"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (karpathy({"filename": "a.jpg", "sentences": []}), "a.jpg in FILE has no captions: add one"),
        (coco([(1, "a.jpg")], []), "a.jpg in FILE has no captions: add one"),
        (
            karpathy({"filename": "a.jpg", "split": "held"}),
            "split 'held' of a.jpg in FILE is unknown: write train, val",
        ),
        ("image,caption,split\na.jpg,a dog,\n", "split '' of a.jpg in FILE is unknown"),
        (
            karpathy({"filename": "a.jpg"}, {"filename": "a.jpg", "split": "val"}),
            "a.jpg is in the splits train and val",
        ),
        (karpathy({"filename": "a.jpg"}, {"filename": "./a.jpg"}), "a.jpg is listed twice in FILE: put its captions"),
        ("image,caption,split\na.jpg,a,train\na.jpg,b,test\n", "a.jpg is in the splits train and test of FILE"),
        (
            karpathy({"filename": "a.jpg", "imgid": 4}, {"filename": "b.jpg", "imgid": 4}),
            "image id 4 is given twice in FILE, to a.jpg and b.jpg: give each image an id of its own",
        ),
        (coco([(4, "a.jpg"), (4, "b.jpg")], [(4, "x")]), "image id 4 is given twice in FILE"),
        (coco([(4, "a.jpg")], [(4, "x"), (6, "y"), (5, "z")]), "FILE has captions for image id 5, which its images do"),
        (coco([(4, "a.jpg")], [(None, "x")]), "the image id of annotations[0] of FILE is null: it must be a whole"),
        (coco([([4], "a.jpg")], [(4, "x")]), "the image id of images[0] of FILE is [4]: it must be a whole number"),
        (coco([(4, "a.jpg")], [(4, 5)]), '"caption" of annotations[0] of FILE is 5: it must be a text'),
        ({"images": [], "annotations": [{"image_id": 1, "bbox": []}]}, 'annotations[0] of FILE has no "caption" (its'),
        ({"images": [], "annotations": {}}, '"annotations" of FILE is {}: it must be a list'),
        ({"images": [], "annotations": []}, "FILE names no image: give a file with captions"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}]}, 'images[0] of FILE has no "sentences": give a file with capt'),
        ({"images": {}}, '"images" of FILE is {}: it must be a list'),
        ({"images": [3]}, "images[0] of FILE is 3: it must be an object"),
        (karpathy({"filename": 3}), '"filename" of images[0] of FILE is 3: it must be a text'),
        (karpathy({"filename": "a.jpg", "sentences": [{}]}), 'a sentence of images[0] of FILE has no "raw": add it'),
        (
            karpathy({"filename": "a.jpg", "sentences": [{"raw": "\ud800"}]}),
            "caption 1 of a.jpg in FILE is not Unicode",
        ),
        (karpathy({"filename": ""}), "image path '.' in FILE is not a file's: write the image's"),
        (karpathy({"filename": "\0"}), "image"),
        (karpathy({"filename": "a\nb.jpg"}), r"image path 'a\nb.jpg' in FILE has a line break: write it without"),
        ({"a": 1}, "FILE is a JSON object with the fields 'a': give Karpathy's JSON, COCO"),
        ([1, 2], "FILE is a JSON list that begins with 1: give Karpathy's JSON"),
        ([{"image_id": 1, "caption": "a dog"}], 'entry[0] of FILE has an "image_id" but no "image": add the path'),
        ("a dog\n", "FILE is text of one column, which begins 'a dog': a table needs a column of pictures"),
        ("id;words\na.jpg;a dog\n", "FILE is a table of 2 columns between semicolons, which begins with 'id', 'words'"),
        ("", "FILE is empty: give a file with captions"),
        ("\ufeff \n\n", "FILE is empty"),
        ("image,caption\n", "FILE names no image"),
        ("image,caption\na.jpg,a dog, a cat\n", "FILE, line 2 has 3 fields where its header has 2: write a caption"),
        ('image,caption\na.jpg,"a dog\n', "FILE, line 2 is not CSV (a quotation mark is not closed): fix it"),
        (json.dumps(karpathy({"filename": "a.jpg"}))[:-30], "FILE is not JSON ("),
        ('{\n"images": [,\n', "FILE is not JSON (Expecting value at line 2, column 12): if it was cut short, fetch"),
        ('{"images": [', "FILE is not JSON (Expecting value at column 13): if it was cut short, fetch it again"),
        (
            '[{"image": "a.jpg"},\n]',
            "FILE is not JSON (Expecting value at line 2, column 1): fix it there, or fetch it again",
        ),
        ("[{'image': 'a.jpg'}]", "FILE is not JSON (Expecting property name enclosed in double quotes at column 3): "),
        ('{"images": []} {"images": []}', "FILE continues after its JSON ended in line 1: fetch it again"),
        ("{" * 3, "FILE is not JSON"),
        ('{"a":' * 100_000, "FILE is not usable JSON"),
        ('{"image": "a.jpg", "captions": ["a"]}\n{"image": "a.jpg", "captions": ["b"]}', "a.jpg is listed twice"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(folder: Folder, tmp_path: Path, content: object, message: str) -> None:
    folder.pictures("a.jpg", "b.jpg")
    file = folder.write(content)
    told = refused(lambda: read_records(file)).replace(str(file), "FILE").replace(f"{tmp_path}/", "")
    assert told.startswith(message)


@pytest.mark.parametrize("path", ["../a.jpg", "sub/../../a.jpg", ".."])
def test_a_path_that_leaves_its_folder_is_refused(folder: Folder, tmp_path: Path, path: str) -> None:
    folder.pictures("a.jpg", "images/b.jpg")
    file = folder.write(karpathy({"filename": path}))
    assert f"is not within {tmp_path / 'images'}: write one that is" in refused(
        lambda: read_records(file, tmp_path / "images")
    )


def test_an_absolute_path_is_refused_where_a_folder_is_given(folder: Folder, tmp_path: Path) -> None:
    folder.pictures("a.jpg")
    file = folder.write(karpathy({"filename": str(tmp_path / "a.jpg")}))
    assert "is absolute: write it relative to the image folder" in refused(lambda: read_records(file, tmp_path))


@pytest.mark.parametrize("content", [b"image,caption\na.jpg,caf\xe9", "image,caption\n".encode("utf-16")[:-1]])
def test_other_encodings_are_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "captions"
    file.write_bytes(content)
    assert "is not UTF-8 text (byte" in refused(lambda: read_records(file))


@pytest.mark.parametrize("name", ["missing.json", "a\0b", "n" * 5000])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    assert refused(lambda: read_records(tmp_path / name)).startswith("cannot read")


def test_an_unknown_split_argument_is_told(tmp_path: Path) -> None:
    assert refused(lambda: read_records(tmp_path, split="dev")) == "split 'dev' is unknown: choose train, val, test"


def test_split_files_for_a_file_with_splits_are_refused(folder: Folder, tmp_path: Path) -> None:
    file = folder.write(karpathy({"filename": "a.jpg"}))
    assert "says itself which split an image is in" in refused(lambda: read_records(file, splits=tmp_path))


@pytest.mark.parametrize(
    ("tokens", "splits", "message"),
    [
        (TOKENS, {"train": "a.jpg\nd.jpg\n"}, "d.jpg in FILE has no captions"),
        (TOKENS, {"train": "a.jpg\nb.jpg\n"}, "b.jpg is in the splits train and val of FILE"),
        (TOKENS, {"train": "a.jpg\na.jpg\n"}, "a.jpg is listed twice in FILE"),
        (TOKENS, {"test": ""}, "Flickr_8k.testImages.txt is empty"),
        ("a.jpg#0\tdog\nb.jpg dog\n", {}, "FILE, line 2 is not of the form image.jpg#0<TAB>caption: fix it"),
        ("a.jpg#0\tdog\na.jpg#1\t \n", {"train": "a.jpg"}, "caption 2 of a.jpg in FILE is empty"),
    ],
)
def test_a_wrong_token_or_split_file_is_told(
    folder: Folder, tmp_path: Path, tokens: str, splits: dict[str, str], message: str
) -> None:
    folder.pictures("a.jpg", "b.jpg", "c.jpg")
    folder.splits(**splits)
    file = folder.write(tokens, "tokens.txt")
    told = refused(lambda: read_records(file)).replace(str(file), "FILE").replace(f"{tmp_path}/", "")
    assert told.startswith(message)


def test_a_missing_split_file_is_told(folder: Folder, tmp_path: Path) -> None:
    folder.splits()
    (tmp_path / "Flickr_8k.devImages.txt").unlink()
    file = folder.write(TOKENS, "tokens.txt")
    assert "Flickr_8k.devImages.txt is missing" in refused(lambda: read_records(file))


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the data sets beside the project are not there ({SHARED.name}/)")
    return SHARED


@pytest.mark.shared_data
def test_real_flickr8k_is_read(shared: Path) -> None:
    records = read_records(shared / "flickr8k/dataset_flickr8k.json", shared / "flickr8k/images")
    assert Counter(record.split for record in records) == {"train": 6000, "val": 1000, "test": 1000}
    assert sum(len(record.captions) for record in records) == 40_000
    assert records[0].captions[0] == "A black dog is running after a white dog in the snow ."


@pytest.mark.shared_data
def test_real_token_file_tells_the_same_as_karpathys(shared: Path, folder: Folder, tmp_path: Path) -> None:
    images = shared / "flickr8k/images"
    records = read_records(shared / "flickr8k/dataset_flickr8k.json", images)
    names = {
        split: "".join(f"{r.image.name}\n" for r in records if r.split == split) for split in ("train", "val", "test")
    }
    folder.splits(**names)
    tokens = read_records(shared / "flickr8k/Flickr8k.token.txt", images, tmp_path)
    assert {r.image: (r.captions, r.split) for r in tokens} == {r.image: (r.captions, r.split) for r in records}


@pytest.mark.shared_data
def test_real_coco_annotations(shared: Path) -> None:
    records = read_records(shared / "coco/annotations/captions_val2017_subset.json", shared / "coco/val2017")
    assert (len(records), sum(len(record.captions) for record in records)) == (388, 1941)
    assert {record.split for record in records} == {"val"}
    assert not any("\n" in caption for record in records for caption in record.captions)


@pytest.mark.shared_data
def test_real_coco_annotations_with_images_missing(shared: Path) -> None:
    file = shared / "coco/annotations/captions_val2017.json"
    assert "(4612 of 5000 images are)" in refused(lambda: read_records(file, shared / "coco/val2017"))
