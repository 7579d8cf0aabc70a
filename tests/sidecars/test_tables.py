"""JSON lines, CSV and COCO: a person's rows stay as they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from readers import MAKER, put, undo

from captioner.sidecars import coco, csv_file, metadata_jsonl
from captioner.sidecars.manifest import Manifests
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.targets import Row, Target

LINES = b"""{"text":"mine",  "file_name": "b.jpg"}

{"file_name": "c.jpg", "label": 3}
{"file_name": "z.jpg", "text": "far"}"""
RECORDS = '\ufefffile_name;x,text,file_name\r\n1,"mine, ""and\r\nyours""",b.jpg\r\n"2",,c.jpg\r\n3, far ,z.jpg'.encode()
ANNOTATIONS: dict[str, object] = {
    "info": {"year": 2026},
    "images": [{"id": 7, "file_name": "b.jpg", "flickr_url": "x"}, {"id": 9, "file_name": "c.jpg"}],
    "annotations": [{"id": 5, "image_id": 7, "caption": "mine"}, {"id": 6, "image_id": 7, "caption": "mine too"}],
}


def write(target: Target, **policy: object) -> list[Row]:
    """Writes a caption for each picture that wants one."""
    manifests, rules = Manifests(), Policy(**policy)  # type: ignore[arg-type]
    slots = target.slots(manifests)
    wanted = [name for name in target.pictures if rules.wants(slots[name])]
    change = target.change({name: Captioned(f"a {name[0]}", -2.0, 0.5) for name in wanted}, rules, manifests, MAKER)
    if change.entry is not None and change.write is not None:
        manifests.of(target.path.parent).append([change.entry])
        put(change.write())
    manifests.close()
    return change.rows


def pictures(folder: Path) -> list[Path]:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).touch()
    return [folder / name for name in ("a.jpg", "b.jpg", "c.jpg")]


def test_lines_of_others_stay_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(LINES)
    target = metadata_jsonl.target(tmp_path, pictures(tmp_path))
    assert [row.action for row in write(target)] == ["write", "write"]
    lines = path.read_bytes().split(b"\n")
    assert lines[0] == LINES.split(b"\n")[0]
    assert json.loads(lines[1]) == {"file_name": "c.jpg", "label": 3, "text": "a c", "confidence": 0.5}
    assert lines[2] == LINES.split(b"\n")[3]
    assert json.loads(lines[3])["text"] == "a a"
    undo(target)
    assert path.read_bytes() == LINES


def test_records_of_others_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes(RECORDS)
    target = csv_file.target(tmp_path, pictures(tmp_path))
    write(target)
    text = path.read_bytes().decode()
    first, rest = RECORDS.decode().split('"2",,c.jpg\r\n')
    assert text == f"{first}2,a c,c.jpg\r\n{rest}\r\n,a a,a.jpg\r\n"
    with path.open(newline="", encoding="utf-8-sig") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ['mine, "and\r\nyours"', "a c", " far ", "a a"]
    undo(target)
    assert path.read_bytes() == RECORDS


def test_annotations_of_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(ANNOTATIONS, indent=1))
    before = path.read_bytes()
    target = coco.target(tmp_path, pictures(tmp_path))
    write(target)
    read = json.loads(path.read_text())
    assert read["info"] == {"year": 2026}
    assert read["images"][:2] == ANNOTATIONS["images"]
    assert read["annotations"][:2] == ANNOTATIONS["annotations"]
    new = {each["image_id"]: each for each in read["annotations"][2:]}
    assert new[9] == {"id": 8, "image_id": 9, "caption": "a c", "score": -2.0, "confidence": 0.5}
    [added] = read["images"][2:]
    assert (added["file_name"], new[added["id"]]["caption"]) == ("a.jpg", "a a")
    undo(target)
    assert path.read_bytes() == before


@pytest.mark.parametrize("form", [metadata_jsonl, csv_file, coco])
def test_after_a_person_added_rows_only_ours_go(form: object, tmp_path: Path) -> None:
    target: Target = form.target(tmp_path, pictures(tmp_path))  # type: ignore[attr-defined]
    write(target)
    if target.path.suffix == ".json":
        read = json.loads(target.path.read_text())
        read["annotations"][0]["caption"] = "mine"
        target.path.write_text(json.dumps(read))
    else:
        target.path.write_text(target.path.read_text().replace("a a", "mine"))
    row = undo(target)
    assert row is not None
    assert row.action == "restore"
    again = form.target(tmp_path, pictures(tmp_path))  # type: ignore[attr-defined]
    assert dict(again.document(again.read()).texts) == {"a.jpg": "mine"}
    assert "b.jpg" not in target.path.read_text()


@pytest.mark.parametrize("form", [metadata_jsonl, csv_file, coco])
def test_rows_of_pictures_that_are_gone_go_too(form: object, tmp_path: Path) -> None:
    all_of_them = pictures(tmp_path)
    write(form.target(tmp_path, all_of_them))  # type: ignore[attr-defined]
    all_of_them[1].unlink()
    target: Target = form.target(tmp_path, [all_of_them[0], all_of_them[2]])  # type: ignore[attr-defined]
    write(target)
    assert dict(target.document(target.read()).texts) == {"a.jpg": "a a", "c.jpg": "a c"}
    undo(target)
    assert not target.path.exists()


def test_coco_pictures_keep_their_ids(tmp_path: Path) -> None:
    names = ("COCO_val2014_000000000042.jpg", "000000000009.jpg", "IMG_20260101_123456789012.jpg", "a.jpg")
    for name in names:
        (tmp_path / name).touch()
    target = coco.target(tmp_path, [tmp_path / name for name in names])
    write(target)
    ids = {image["file_name"]: image["id"] for image in json.loads(target.path.read_text())["images"]}
    assert [ids[name] for name in names[:2]] == [42, 9]
    assert len(set(ids.values())) == 4
