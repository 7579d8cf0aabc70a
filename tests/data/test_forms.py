"""The same captions in every form that people have them in, read from real files."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.cli import main
from captioner.data.caption_files import read_records
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError

SAME = {"a.jpg": ["a red square , plain", "a square"], "b.jpg": ["a blue square"]}
ROWS = [(image, caption) for image, captions in SAME.items() for caption in captions]


def table(delimiter: str = ",", header: tuple[str, ...] = ("image", "caption"), blank: str = "") -> str:
    quoted = [f'"{caption}"' if delimiter in caption else caption for _, caption in ROWS]
    lines = [header, *((image, caption) for (image, _), caption in zip(ROWS, quoted, strict=True))]
    return "".join(f"{delimiter}{blank}".join(line) + "\n" for line in lines)


def lines(*objects: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


FORMS = {
    "comma": table(),
    "semicolon": table(";"),
    "tab": table("\t"),
    "bar with blanks, as Flickr30k's": table("|", ("image_name", "comment"), " "),
    "a mark that nobody would guess": table("^"),
    "the delimiter named for Excel": "sep=;\r\n" + table(";").replace("\n", "\r\n"),
    "quoted for Excel": '"sep=;"\n' + table(";"),
    "blanks after commas": table(blank=" "),
    "rows and cells that are empty": "\n" + table().replace("\n", ",,\n") + ",,,\n , ,\n",
    "other names": table(header=("File Name", "Text")),
    "names of datasets": table(header=("image_path", "sentence")),
    "an index in front": ",image,caption\n" + "".join(f'{n},{i},"{c}"\n' for n, (i, c) in enumerate(ROWS)),
    "names of rows as R writes them": '"image","caption"\n'
    + "".join(f'"{n}","{i}","{c}"\n' for n, (i, c) in enumerate(ROWS, 1)),
    "a list in a cell as pandas writes it": f'image,captions\na.jpg,"{SAME["a.jpg"]}"\nb.jpg,"{SAME["b.jpg"]}"\n',
    "a list in a cell as NumPy prints it": (
        "image,captions\na.jpg,\"['a red square , plain'\n 'a square']\"\nb.jpg,['a blue square']\n"
    ),
    "a list a line": lines(*ROWS),
    "entries by a name of their own": json.dumps(
        {str(n): {"file_name": image, "captions": own} for n, (image, own) in enumerate(SAME.items())}
    ),
    "columns by number": 'file_name,caption_1,caption_2\na.jpg,"a red square , plain",a square\nb.jpg,a blue square,\n',
    "columns of one name": 'image,caption,caption\na.jpg,"a red square , plain",a square\nb.jpg,a blue square,\n',
    "a list in a cell": 'raw,filename\n"[""a red square , plain"", ""a square""]",a.jpg\n"[""a blue square""]",b.jpg\n',
    "without names": "".join(f"{image}\t{caption}\n" for image, caption in ROWS),
    "JSON lines": lines(*({"image": image, "captions": captions} for image, captions in SAME.items())),
    "one caption a line": lines(*({"file_name": image, "text": caption} for image, caption in ROWS)),
    "a list of entries": json.dumps([{"image": image, "captions": own} for image, own in SAME.items()], indent=1),
    "a list of captions": json.dumps([{"path": image, "caption": caption} for image, caption in ROWS]),
    "a dictionary": json.dumps(SAME),
    "a dictionary of entries": json.dumps({image: {"captions": own} for image, own in SAME.items()}),
    "entries below a name": json.dumps({"version": 1, "data": [{"img": i, "description": c} for i, c in ROWS]}),
    "columns of lists": json.dumps({"image": list(SAME), "captions": list(SAME.values())}),
    "columns of pandas": json.dumps(
        {"image": {str(n): i for n, (i, _) in enumerate(ROWS)}, "caption": {str(n): c for n, (_, c) in enumerate(ROWS)}}
    ),
    "captions as objects": lines(*({"image": i, "captions": [{"caption": c} for c in own]} for i, own in SAME.items())),
    "a list for each split": json.dumps(
        {"train": [{"image": "a.jpg", "captions": SAME["a.jpg"]}, {"image": "b.jpg", "captions": SAME["b.jpg"]}]}
    ),
    "pictures as Hugging Face writes them": lines(*({"image": {"bytes": None, "path": i}, "text": c} for i, c in ROWS)),
    "COCO's with ids of two types": json.dumps(
        {
            "images": [{"id": str(n), "file_name": image} for n, image in enumerate(SAME)],
            "annotations": [{"image_id": list(SAME).index(image), "caption": caption} for image, caption in ROWS],
        }
    ),
    "COCO's with zeros before the ids": json.dumps(
        {
            "images": [{"id": n, "file_name": image} for n, image in enumerate(SAME)],
            "annotations": [
                {"image_id": f"{list(SAME).index(image):012}", "caption": caption} for image, caption in ROWS
            ],
        }
    ),
    "COCO's with lists of captions": json.dumps(
        {
            "images": [{"id": n, "file_name": image} for n, image in enumerate(SAME)],
            "annotations": [{"image_id": n, "caption": captions} for n, captions in enumerate(SAME.values())],
        }
    ),
    "COCO's for each split": json.dumps(
        {
            "train": {
                "images": [{"id": n, "file_name": image} for n, image in enumerate(SAME)],
                "annotations": [{"image_id": list(SAME).index(image), "caption": caption} for image, caption in ROWS],
            }
        }
    ),
    "Karpathy's with sentences as texts": json.dumps(
        {"images": [{"filename": image, "split": "train", "sentences": own} for image, own in SAME.items()]}
    ),
    "a dictionary for each split": json.dumps({"train": {"a.jpg": SAME["a.jpg"]}, "val": {"b.jpg": "a blue square"}}),
    "a list of rows": json.dumps([["caption", "image"], *([caption, image] for image, caption in ROWS)]),
    "a list of pairs": json.dumps([[image, caption] for image, caption in ROWS]),
    "pairs with lists": json.dumps(list(SAME.items())),
    "names and rows of pandas": json.dumps(
        {"columns": ["image", "caption"], "index": list(range(len(ROWS))), "data": [list(row) for row in ROWS]}
    ),
    "annotations with names": json.dumps({"annotations": [{"file_name": i, "caption": c} for i, c in ROWS]}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in SAME:
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


def content(file: Path) -> Mapping[str, list[str]]:
    return {record.image.name: list(record.captions) for record in read_records(file)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_same_content_in_any_form(folder: Path, form: str, encoding: str) -> None:
    file = folder / "captions"
    file.write_bytes(FORMS[form].encode(encoding))
    assert content(file) == SAME


def test_lists_for_splits_and_numbers_for_names(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"train": [{"image": 1, "text": "a"}], "validation": [{"image": "2.jpg", "text": "b"}]}))
    assert [(each.image.name, each.split) for each in read_records(file)] == [("1.jpg", "train"), ("2.jpg", "val")]


def test_utf_32_and_utf_16_without_its_mark(folder: Path) -> None:
    file = folder / "captions.csv"
    file.write_text(table(), encoding="utf-32")
    assert content(file) == SAME
    file.write_text(table(), encoding="utf-16-le")
    with pytest.raises(CaptionerError, match=r"is not UTF-8 text \(every other character is NUL\): save it as UTF-8"):
        read_records(file)


def test_quotes_within_a_list_in_a_cell(folder: Path) -> None:
    texts = ["a dog's bone", 'a "big" dog', 'it\'s "his", so']
    rows = [["image", "captions"], ["a.jpg", str(texts)], ["b.jpg", "[left, right]"]]
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert content(folder / "captions.csv") == {"a.jpg": texts, "b.jpg": ["[left, right]"]}


def test_images_of_coco_may_name_their_split(folder: Path) -> None:
    images = [
        {"id": n, "file_name": image, "split": split}
        for n, (image, split) in enumerate(zip(SAME, ("val", "test"), strict=True))
    ]
    annotations = [{"image_id": n, "caption": "a square"} for n in range(len(SAME))]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    assert [record.split for record in read_records(folder / "captions.json")] == ["val", "test"]


def test_a_quotation_mark_before_much_text_is_told_where_it_opens(folder: Path) -> None:
    (folder / "captions.csv").write_text('image,caption\na.jpg,"a dog\n' + "b.jpg,a cat\n" * 20_000)
    with pytest.raises(CaptionerError, match=r"line 2 is not CSV \(a quotation mark is not closed, or a cell has more"):
        read_records(folder / "captions.csv")


def test_bytes_are_told_from_text_in_another_encoding(folder: Path) -> None:
    file = folder / "captions.csv"
    file.write_bytes(struct.pack("<QI", 14, 0xDEADBEEF) + b"\x0a\x0cimage\xffa.jpg" + struct.pack("<3I", 7, 0, 9))
    with pytest.raises(CaptionerError, match=r"is not text \(it has bytes of zero\): give a file with captions"):
        read_records(file)
    np.savez(file.with_suffix(".npz"), captions=np.zeros(2))
    with pytest.raises(CaptionerError, match="is a NumPy archive: write it as CSV or JSON lines"):
        read_records(file.with_suffix(".npz"))


def test_a_delimiter_for_excel_alone_is_no_table(folder: Path) -> None:
    for text in ("sep=;\n", 'sep="\na.jpg,a dog\n'):
        (folder / "captions.csv").write_text(text)
        with pytest.raises(CaptionerError, match="a table needs a column of pictures"):
            read_records(folder / "captions.csv")


def test_quotes_may_stand_where_no_delimiter_needs_them(folder: Path) -> None:
    (folder / "captions.tsv").write_text('image\tcaption\na.jpg\t"Stop" is on it\nb.jpg\ta 5" pipe\n')
    assert content(folder / "captions.tsv") == {"a.jpg": ['"Stop" is on it'], "b.jpg": ['a 5" pipe']}


@pytest.mark.parametrize(
    ("written", "split"),
    [("validation", "val"), ("Dev", "val"), (" train ", "train"), ("TEST", "test"), ("restval", "train")],
)
def test_splits_have_other_names(folder: Path, written: str, split: str) -> None:
    (folder / "captions.csv").write_text(f"image,caption,split\na.jpg,a dog,{written}\n")
    assert read_records(folder / "captions.csv")[0].split == split


def test_an_image_folder_of_hugging_face(folder: Path) -> None:
    for part, image in (("train", "a.jpg"), ("validation", "b.jpg")):
        (folder / "set" / part).mkdir(parents=True)
        (folder / image).rename(folder / "set" / part / image)
        text = "".join(f'{image},"{caption}"\n' for caption in SAME[image])
        (folder / "set" / part / "metadata.csv").write_text(f"file_name,text\n{text}")
    wanted = [("a.jpg", "train"), ("b.jpg", "val")]
    whole = read_records(folder / "set")
    assert [(record.image.name, record.split) for record in whole] == wanted
    assert whole[0].image_id == "train/a.jpg"
    single = [*read_records(folder / "set/train/metadata.csv"), *read_records(folder / "set/validation/metadata.csv")]
    assert [(record.image.name, record.split, record.captions) for record in single] == [
        (record.image.name, record.split, record.captions) for record in whole
    ]


def test_text_files_beside_pictures(folder: Path) -> None:
    (folder / "val").mkdir()
    (folder / "b.jpg").rename(folder / "val" / "b.jpg")
    (folder / "a.txt").write_text("\n".join(SAME["a.jpg"]) + "\n\n")
    (folder / "val" / "b.caption").write_text("a blue square")
    records = read_records(folder)
    assert {record.image.name: (list(record.captions), record.split) for record in records} == {
        "a.jpg": (SAME["a.jpg"], "train"),
        "b.jpg": (SAME["b.jpg"], "val"),
    }


def test_a_picture_without_its_text_file_is_skipped_as_far_as_allowed(folder: Path) -> None:
    (folder / "a.txt").write_text("a red square")
    (folder / "b.txt").touch()
    with pytest.raises(CaptionerError, match=r"b.jpg in .* has no captions: add one"):
        read_records(folder)
    skipped = Skipped(folder, 0.5)
    assert [record.image.name for record in read_records(folder, skipped=skipped)] == ["a.jpg"]
    assert skipped.images == 1


def test_captions_of_the_captioner_are_read_and_known_as_such(folder: Path, checkpoint: Path) -> None:
    output = folder / "captions.jsonl"
    command = ["caption", str(folder / "a.jpg"), str(folder / "b.jpg"), "--model", str(checkpoint)]
    assert main([*command, "--output", str(output), "--num-captions", "2", "--beam-size", "2"]) == 0
    written = [json.loads(line) for line in output.read_text().splitlines()]
    records = read_records(output)
    assert [[each["caption"] for each in line["captions"]] for line in written] == [list(r.captions) for r in records]
    assert not any(record.human for record in records)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name;words\na;b\n", "is a table of 2 columns between semicolons, which begins with 'name', 'words': a table"),
        (
            "just words\n",
            "is text of one column, which begins 'just words': a table needs a column of pictures, such as",
        ),
        ('{"a": 1, "b": {}}', "is a JSON object with the fields 'a', 'b': give Karpathy's JSON"),
        ('image,caption\na.jpg,"a dog\nb.jpg,a cat\n', ", line 2 is not CSV (a quotation mark is not closed): fix it"),
        (
            "image|n|caption\na.jpg|0|a dog\nb.jpg|1 a cat\n",
            "line 3 has 2 fields where its header has 3: a | is missing",
        ),
        ("a.jpg:\n  - a dog\n", "is a table of 2 columns between ':', which begins with 'a.jpg', '': a table needs"),
        (
            '{"image": "a.jpg", "caption": "a"},\n{"image": "b.jpg", "caption": "b"}\n',
            "has a comma after the JSON that ends in line 1: write an object a line without commas between them",
        ),
        ("\0" * 64, "is empty: give a file with captions"),
        ("[[1, 2]]", "is a JSON list that begins with [1, 2]: give Karpathy's JSON"),
        (
            '{"pic": "a.jpg", "words": "x"}\n{"pic": "b.jpg", "words": "x"}',
            "line 1 has no \"image\" (its fields: 'pic', ",
        ),
        ('[{"image": "a.jpg", "words": "x"}]', "has no \"captions\" (its fields: 'image', 'words'): add it"),
    ],
)
def test_what_is_not_read_is_told_with_what_was_found(folder: Path, text: str, told: str) -> None:
    (folder / "captions").write_text(text)
    with pytest.raises(CaptionerError) as raised:
        read_records(folder / "captions")
    assert told in str(raised.value)


VIZWIZ = {
    "images": [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 0, "caption": "Quality issues are too severe.", "is_precanned": True, "is_rejected": False},
        {"image_id": 0, "caption": "spam", "is_precanned": False, "is_rejected": True},
        {"image_id": 0, "caption": "a red square", "is_precanned": False, "is_rejected": False},
        {"image_id": 1, "caption": "Quality issues are too severe.", "is_precanned": True, "is_rejected": False},
    ],
}


def test_what_vizwiz_marks_as_no_caption_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "val.json"
    file.write_text(json.dumps(VIZWIZ))
    skipped = Skipped(file)
    [record] = read_records(file, skipped=skipped)
    assert record.captions == ("a red square",)
    skipped.report()
    told = capsys.readouterr().err
    assert told.endswith(
        "left out 3 captions (2 canned, 1 rejected) and 1 images (1 with no other caption), as the file marks them\n"
    )


FLAGGED = [("a.jpg", "spam", 0, 1), ("a.jpg", "a red square", 0, 0), ("b.jpg", "Quality issues.", 1, 0)]
FLAGS = ("image", "caption", "is_precanned", "is_rejected")


@pytest.mark.parametrize("kind", [int, bool, float, str])
@pytest.mark.parametrize("form", ["COCO", "CSV", "JSON lines"])
def test_what_vizwiz_marks_is_left_out_of_every_form(folder: Path, form: str, kind: type) -> None:
    rows = [(image, text, *map(kind, map(bool, flags))) for image, text, *flags in FLAGGED]
    annotations = [{**dict(zip(FLAGS, row, strict=True)), "image_id": row[0]} for row in rows]
    images = [{"id": name, "file_name": name} for name in SAME]
    (folder / "captions").write_text(
        {
            "COCO": json.dumps({"images": images, "annotations": annotations}),
            "CSV": ",".join(FLAGS) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows),
            "JSON lines": lines(*(dict(zip(FLAGS, row, strict=True)) for row in rows)),
        }[form]
    )
    assert content(folder / "captions") == {"a.jpg": ["a red square"]}


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("images\\c.jpg", "images/c.jpg"),
        ("IMAGES/C.JPG", "images/c.jpg"),
        ("été.jpg", "e\u0301te\u0301.jpg"),
        ("e\u0301te\u0301.jpg", "été.jpg"),
        ("été/c.jpg", "e\u0301te\u0301/c.jpg"),
        ("c", "c.jpg"),
        ("c.jpg", "images/c.jpg"),
    ],
)
def test_a_picture_is_found_as_other_systems_spell_it(tmp_path: Path, written: str, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    (tmp_path / "captions.csv").write_text(f"image,caption\n{written},a dog\n", encoding="utf-8")
    [record] = read_records(tmp_path / "captions.csv")
    assert record.image == tmp_path / there


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("https://example.com/c.jpg", "image https://example.com/c.jpg of "),
        ("https://example.com/c.jpg", "addresses are not fetched; download the pictures"),
        ("file:///pictures/c.jpg", "image file:///pictures/c.jpg of "),
        ("file:///pictures/c.jpg", "it is an address; write the path alone, without file://"),
        ("s3://bucket/c.jpg", "addresses are not fetched"),
        ("C:\\Users\\me\\c.jpg", "it is a path of Windows; write it relative to the image folder"),
        ("C.jpg", "put it there or give the right image folder"),  # two files are spelled so
        ("..\\c.jpg", "is not within"),
    ],
)
def test_a_picture_that_is_not_found_is_told_with_the_cure(tmp_path: Path, written: str, told: str) -> None:
    for name in ("c.JPG", "c.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "captions.csv").write_text(f"image,caption\n{written},a dog\n")
    with pytest.raises(CaptionerError) as raised:
        read_records(tmp_path / "captions.csv")
    assert told in str(raised.value)
