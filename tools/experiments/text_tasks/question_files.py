"""Questions about pictures: a folder with a table, or with the files of VQA v2."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from captioner.data.json_fields import field, fields_of, parse_value, quote, read_text, typed
from captioner.errors import CaptionerError

Split = Literal["train", "val", "test"]
Box = tuple[float, float, float, float]

TABLE = "questions.csv"
COLUMNS = ("image", "question", "answer", "split")

VQA_SUBSETS: dict[Split, str] = {"train": "train2014", "val": "train2014", "test": "val2014"}
"""The subset of VQA v2 that each split is taken from: the answers of its test pictures are not published."""
HELD_OUT = 20
"""Of so many pictures of VQA v2's training subset, one is for validation."""


class Asked(NamedTuple):
    """A question about a picture.

    Attributes:
        picture: The picture's file.
        question: The question.
        answers: What people have answered, at least one.
        type: Type of the answer or question, such as ``yes/no``; empty if unknown.
        box: The box of what is asked for: left, top, width and height in pixels of the picture; None if unknown.
    """

    picture: Path
    question: str
    answers: tuple[str, ...]
    type: str = ""
    box: Box | None = None


def read_questions(folder: Path, split: Split) -> list[Asked]:
    """Read the questions of a split.

    Args:
        folder: It holds ``questions.csv``, or VQA v2's files under the names that they are published under.
        split: The split.

    Raises:
        CaptionerError: A file cannot be read or has another format, or the split has no questions.
    """
    table = folder / TABLE
    questions = list(_read_table(table, split) if table.exists() else _read_vqa(folder, split))
    if not questions:
        raise CaptionerError(f"{folder}: has no question of the split {split}; add some")
    return questions


def _read_table(path: Path, split: Split) -> Iterator[Asked]:
    """Rows of image, question, answer, split, and if known type and box ("left top width height")."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        names = reader.fieldnames or ()
        if missing := [name for name in COLUMNS if name not in names]:
            raise CaptionerError(f"{path}: has the columns {fields_of(names)}, without {missing[0]!r}; add it")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise CaptionerError(f"{where}: has not as many fields as the header; fix it")
            if row["split"] not in get_args(Split):
                raise CaptionerError(f"{where}: has the split {row['split']!r}; choose {' or '.join(get_args(Split))}")
            if not all(row[name].strip() for name in COLUMNS):
                raise CaptionerError(f"{where}: lacks image, question or answer; add it")
            if row["split"] == split:
                box = _box(row.get("box", ""), where)
                yield Asked(path.parent / row["image"], row["question"], (row["answer"],), row.get("type", ""), box)
    except csv.Error as error:
        raise CaptionerError(f"{path}, line {reader.line_num}: is not CSV ({error}); fix it") from error


def _box(cell: str, where: str) -> Box | None:
    if not cell:
        return None
    try:
        left, top, width, height = map(float, cell.split())
    except ValueError:
        raise CaptionerError(f"{where}: has the box {cell!r}; give left, top, width and height in pixels") from None
    return left, top, width, height


def _read_vqa(folder: Path, split: Split) -> Iterator[Asked]:
    """Questions of VQA v2 (Goyal et al., 2017; https://visualqa.org/vqa_v2_format.html)."""
    subset = VQA_SUBSETS[split]
    asked, answered = (
        folder / f"v2_{name}.json" for name in (f"OpenEnded_mscoco_{subset}_questions", f"mscoco_{subset}_annotations")
    )
    if not asked.exists():
        raise CaptionerError(f"{folder}: has neither {TABLE} nor {asked.name}; name the folder of one of them")
    texts = {
        _integer(entry, "question_id", where): field(entry, "question", str, where)
        for entry, where in _entries(asked, "questions")
    }
    for entry, where in _entries(answered, "annotations"):
        question, image = (_integer(entry, name, where) for name in ("question_id", "image_id"))
        if question not in texts:
            raise CaptionerError(
                f"{where}: answers question {question}, which {asked.name} lacks; get both of one kind"
            )
        people = [typed(each, dict, f"an answer of {where}") for each in field(entry, "answers", list, where)]
        if not people:
            raise CaptionerError(f"{where}: has no answers; get a complete copy")
        if split == "test" or (image % HELD_OUT == 0) == (split == "val"):
            yield Asked(
                folder / subset / f"COCO_{subset}_{image:012d}.jpg",
                texts[question],
                tuple(field(each, "answer", str, f"an answer of {where}") for each in people),
                field(entry, "answer_type", str, where),
            )


def _entries(path: Path, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The entries of a list of a JSON object, each with what to call it in messages."""
    content = typed(parse_value(read_text(path), str(path))[0], dict, str(path))
    for number, value in enumerate(field(content, name, list, str(path))):
        where = f"{name}[{number}] of {path}"
        yield typed(value, dict, where), where


def _integer(entry: dict[str, Any], name: str, where: str) -> int:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CaptionerError(f'"{name}" of {where} is {quote(value)}: it must be a whole number')
    return value
