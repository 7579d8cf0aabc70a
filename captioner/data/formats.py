"""Five ways in which captions are kept, each parsed into records as they stand in the file.

``parse`` finds the format by content. The records are raw: image paths are as written, nothing is looked up on disk
(but Flickr8k's split files), and captions may be empty; ``captioner.data.sources`` resolves and checks them.

- Karpathy's JSON (https://cs.stanford.edu/people/karpathy/deepimagesent/), for Flickr8k, Flickr30k and COCO.
- COCO's caption annotations (https://cocodataset.org/#format-data).
- Flickr8k's token file, ``name.jpg#0<TAB>caption``, with its three split files.
- CSV with a header, columns ``image`` and ``caption``, optionally ``split``; one caption a row.
- JSON lines, the form of ``captioner.data.records``.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from captioner.data.fields import field, identity, parse_value, read_text, typed
from captioner.data.records import Record, parse_jsonl
from captioner.errors import CaptionerError

FLICKR8K_SPLITS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}

TOKEN_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")

SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])")


def parse(captions: Path, splits: Path | None, split: str | None) -> list[Record]:
    """Parses a caption file of any of the five formats.

    Args:
        captions: The file.
        splits: Folder of the split files; for Flickr8k's token file only.
        split: The split of pictures for which the file itself gives none.

    Raises:
        CaptionerError: The file cannot be read, or is of no known format, or is damaged.
    """
    text = read_text(captions)
    start = len(text) - len(text.lstrip())
    if text[start] == "{":
        records = _parse_json(text, start, captions, _fallback(captions, split))
    elif TOKEN_LINE.match(text, start):
        return _parse_flickr8k(text, captions, splits, split)
    else:
        records = _parse_csv(text, captions, _fallback(captions, split))
    if splits is not None:
        raise CaptionerError(f"split files {splits} go with a Flickr8k token file, which {captions} is not: omit them")
    return records


def _fallback(captions: Path, split: str | None) -> str:
    """The given split, else the one that the file's name says (captions_val2017.json), else train."""
    said = SPLIT_WORD.search(captions.stem.lower())
    return split or (said[1] if said else "train")


def _parse_json(text: str, start: int, captions: Path, split: str) -> list[Record]:
    value, end = parse_value(text, str(captions), start)
    content = typed(value, dict, str(captions))
    if "image" in content:
        return parse_jsonl(text, captions, split)
    if text[end:].strip():
        line = text.count("\n", 0, end) + 1
        raise CaptionerError(f"{captions} goes on after its JSON ended in line {line}: fetch it again")
    if "annotations" in content:
        return _parse_coco(content, captions, split)
    if "images" in content:
        return _parse_karpathy(content, captions)
    raise CaptionerError(_unknown(captions))


def _parse_karpathy(content: dict[str, Any], captions: Path) -> list[Record]:
    records = []
    for number, value in enumerate(field(content, "images", list, str(captions))):
        where = f"images[{number}] of {captions}"
        entry = typed(value, dict, where)
        if "sentences" not in entry:
            raise CaptionerError(f"{where} has no \"sentences\": give a file with captions, Karpathy's or COCO's")
        name = field(entry, "filename", str, where)
        image = Path(field(entry, "filepath", str, where), name) if "filepath" in entry else Path(name)
        texts = tuple(
            field(typed(sentence, dict, f"a sentence of {where}"), "raw", str, f"a sentence of {where}")
            for sentence in field(entry, "sentences", list, where)
        )
        split = field(entry, "split", str, where)
        image_id = entry.get("cocoid", entry.get("imgid", image.as_posix()))
        # Karpathy's "restval" is the part of COCO's val2014 that his splits leave over; it is for training.
        records.append(Record(image, texts, "train" if split == "restval" else split, identity(image_id, where)))
    return records


def _parse_coco(content: dict[str, Any], captions: Path, split: str) -> list[Record]:
    texts: defaultdict[int | str, list[str]] = defaultdict(list)
    for number, value in enumerate(field(content, "annotations", list, str(captions))):
        where = f"annotations[{number}] of {captions}"
        entry = typed(value, dict, where)
        texts[identity(entry.get("image_id"), where)].append(field(entry, "caption", str, where))
    records = []
    for number, value in enumerate(field(content, "images", list, str(captions))):
        where = f"images[{number}] of {captions}"
        entry = typed(value, dict, where)
        image_id = identity(entry.get("id"), where)
        image = Path(field(entry, "file_name", str, where))
        records.append(Record(image, tuple(texts.get(image_id, ())), split, image_id))
    unlisted = texts.keys() - {record.image_id for record in records}
    if unlisted:
        raise CaptionerError(
            f"{captions} has captions for image id {min(unlisted, key=str)}, which its images do not list "
            f"({len(unlisted)} such ids): add the image or take its captions out"
        )
    return records


def _parse_flickr8k(text: str, captions: Path, splits: Path | None, split: str | None) -> list[Record]:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = TOKEN_LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise CaptionerError(f"{captions}, line {number} is not of the form image.jpg#0<TAB>caption: mend it")
        texts[match["image"]].append(match["caption"])
    if splits is None and split is not None:
        return [Record(Path(image), tuple(own), split, image) for image, own in texts.items()]
    records = []
    for part, name in FLICKR8K_SPLITS.items():
        file = (captions.parent if splits is None else splits) / name
        if not file.is_file():
            raise CaptionerError(f"split file {file} is missing: put Flickr8k's three split files there")
        for line in read_text(file).split("\n"):
            image = line.strip()
            if image:
                records.append(Record(Path(image), tuple(texts.get(image, ())), part, image))
    return records


def _parse_csv(text: str, captions: Path, split: str) -> list[Record]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    texts: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    try:
        header = [name.strip().lower() for name in next(row for row in rows if row)]
        if not {"image", "caption"} <= set(header):
            raise CaptionerError(_unknown(captions))
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise CaptionerError(
                    f"{captions}, line {rows.line_num} has {len(row)} fields where its header has {len(header)}: "
                    f'write a caption that holds a comma in "quotes"'
                )
            cell = dict(zip(header, row, strict=True))
            texts[cell["image"], cell.get("split", split)].append(cell["caption"])
    except csv.Error as error:
        raise CaptionerError(f"{captions}, line {rows.line_num} is not CSV ({error}): mend it") from error
    return [Record(Path(image), tuple(own), part, image) for (image, part), own in texts.items()]


def _unknown(captions: Path) -> str:
    return (
        f"{captions} is of no known format: give Karpathy's JSON, COCO caption annotations, a Flickr8k token file, "
        "CSV with the columns image,caption[,split], or JSON lines"
    )
