"""Captions and references are brought together whatever their files look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import captioner
from captioner.cli import main
from captioner.utils.image_ids import match_ids


@pytest.mark.parametrize("given", [1, 1.0, "1", "000000000001", "1.0", " 1 "])
@pytest.mark.parametrize("known", [1, "1", "0001"])
def test_ids_that_differ_in_their_type_alone_match(given: Any, known: Any) -> None:
    assert match_ids([given], [known, 2]) == {given: known}


def test_an_id_is_itself_before_it_is_a_number_and_never_one_of_two() -> None:
    assert match_ids(["1", 1, "01"], ["1", 1]) == {"1": "1", 1: 1}
    assert match_ids(["a", 1.5, "1" * 30], [1, 2]) == {}


def test_the_library_scores_ids_of_another_type() -> None:
    expected = captioner.score({1: "a dog", 2: "a cat"}, {1: ["a dog"], 2: ["a cat"]})
    mixed: Any = {"1": "a dog", "02": "a cat"}
    assert captioner.score(mixed, {1: ["a dog"], 2: ["a cat"]}) == expected


KARPATHY = {
    "images": [
        {"filename": f"{name}.jpg", "imgid": number, "split": split, "sentences": [{"raw": f"a {name} on the grass"}]}
        for number, (name, split) in enumerate([("dog", "train"), ("cat", "val"), ("cow", "val"), ("bird", "test")])
    ]
}
COCO = {
    "images": [{"id": number, "file_name": image["filename"]} for number, image in enumerate(KARPATHY["images"])],
    "annotations": [
        {"image_id": number, "caption": image["sentences"][0]["raw"]}  # type: ignore[index]
        for number, image in enumerate(KARPATHY["images"])
    ],
}
CSV = "image,caption,split\n" + "".join(
    f"{image['filename']},{image['sentences'][0]['raw']},{image['split']}\n"  # type: ignore[index]
    for image in KARPATHY["images"]
)
VAL = {1: "a cat on the grass", 2: "a cow on a road"}


def lines(*objects: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


BY_ID = {
    "results": json.dumps([{"image_id": image, "caption": caption} for image, caption in VAL.items()]),
    "texts": json.dumps([{"image_id": f"{image:012}", "caption": caption} for image, caption in VAL.items()]),
    "floats": json.dumps([{"image_id": float(image), "caption": caption} for image, caption in VAL.items()]),
    "dictionary": json.dumps(VAL),
    "table": "image_id;caption\n" + "".join(f"{image};{caption}\n" for image, caption in VAL.items()),
}
BY_PATH = {
    "captioner's": lines(
        {"image": "photos/cow.jpg", "caption": VAL[2], "log_probability": -1.0},
        {"image": "photos/cat.jpg", "caption": VAL[1], "log_probability": -1.0, "captions": [
            {"caption": VAL[1], "log_probability": -1.0}, {"caption": "a second", "log_probability": -2.0}
        ]},
        {"image": "photos/broken.jpg", "error": "photos/broken.jpg: is empty: get it again"},
    ),
    "table of paths": f"file_name,text\ncat.jpg,{VAL[1]}\ncow.jpg,{VAL[2]}\n",
}  # fmt: skip


def score(folder: Path, references: str, candidates: str, *more: str) -> list[str]:
    (folder / "references").write_text(references)
    (folder / "candidates").write_text(candidates)
    return ["score", "--references", f"{folder}/references", "--candidates", f"{folder}/candidates", "--json", *more]


@pytest.mark.parametrize("candidates", [*BY_ID.values(), *BY_PATH.values()], ids=[*BY_ID, *BY_PATH])
@pytest.mark.parametrize("more", [(), ("--split", "val")])
def test_a_split_of_a_data_set_is_scored_from_any_file(
    tmp_path: Path, candidates: str, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(score(tmp_path, json.dumps(KARPATHY), candidates, *more)) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    references = {1: ["a cat on the grass"], 2: ["a cow on the grass"]}
    expected = captioner.score({image: VAL[image] for image in (1, 2)}, references)
    assert {name: found[name] for name in expected} == expected
    assert more or "scored on 2 of 4 images, those of split val" in err


@pytest.mark.parametrize("references", [json.dumps(COCO), CSV], ids=["coco", "csv"])
@pytest.mark.parametrize("candidates", BY_PATH.values(), ids=BY_PATH)
def test_references_of_other_formats(
    tmp_path: Path, references: str, candidates: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(score(tmp_path, references, candidates, "--subset")) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2


def test_captions_that_the_references_leave_out_are_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canned = "Quality issues are too severe to recognize visual content."
    annotations = [
        {"image_id": 0, "caption": canned, "is_precanned": True, "is_rejected": True},
        {"image_id": 0, "caption": "a red square", "is_precanned": False, "is_rejected": False},
        {"image_id": 1, "caption": canned, "is_precanned": True, "is_rejected": True},
    ]
    references = json.dumps({"images": [{"id": 0}, {"id": 1}], "annotations": annotations})
    assert main(score(tmp_path, references, json.dumps({"0": canned, "1": canned}))) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["images"], json.loads(out)["BLEU-1"] < 1e-6) == (1, True)
    assert "left out 2 captions (2 rejected) and 1 images (1 with no other caption)" in err


@pytest.mark.parametrize(
    ("candidates", "told"),
    [
        ('{"1": "a", "01": "b", "2": "c"}', "image 1 has two captions; keep one"),
        ('[{"image_id": 1.5, "caption": "a"}]', "is 1.5: it must be a whole number or a text"),
        ('{"image": "x.jpg", "caption": "a"}', "image 'x.jpg' has no reference"),
        ('{"image": "cat.jpg", "captions": ["a", "b"]}', "has two captions; keep one"),
    ],
)
def test_candidates_that_cannot_be_scored(
    tmp_path: Path, candidates: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(score(tmp_path, json.dumps(KARPATHY), candidates)) == 2
    assert told in capsys.readouterr().err
