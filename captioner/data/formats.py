"""Five ways in which captions are kept, each parsed into records as they stand in the file.

``parse`` finds the format by content. The records are raw: image paths are as written, nothing is looked up on disk
(but Flickr8k's split files), and captions may be empty; ``captioner.data.caption_files`` resolves and checks them. An
entry of a wrong form can be passed over; a file that is cut short or is something else cannot be used at all.

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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from captioner.data.json_fields import field, identity, parse_value, read_text, typed
from captioner.data.records import Record, parse_jsonl
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.errors import CaptionerError

FLICKR8K_SPLITS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}

TOKEN_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")

SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])")

Entry = TypeVar("Entry")


def parse(captions: Path, splits: Path | None, split: str | None, skipped: Skipped | None = None) -> list[Record]:
    """Parses a caption file of any of the five formats.

    Args:
        captions: The file.
        splits: Folder of the split files; for Flickr8k's token file only.
        split: The split of pictures for which the file itself gives none.
        skipped: Takes the entries of a wrong form; by default there may be none.

    Raises:
        CaptionerError: The file cannot be read, or is of no known format, or is damaged.
    """
    skipped = skipped or Skipped(captions)
    text = read_text(captions)
    start = len(text) - len(text.lstrip())
    if text[start] == "{":
        records = _parse_json(text, start, captions, _fallback(captions, split), skipped)
    elif TOKEN_LINE.match(text, start):
        return _parse_flickr8k(text, captions, splits, split, skipped)
    else:
        records = _parse_csv(text, captions, _fallback(captions, split), skipped)
    if splits is not None:
        raise CaptionerError(f"split files {splits} go with a Flickr8k token file, which {captions} is not: omit them")
    return records


def _fallback(captions: Path, split: str | None) -> str:
    """The given split, else the one that the file's name says (captions_val2017.json), else train."""
    said = SPLIT_WORD.search(captions.stem.lower())
    return split or (said[1] if said else "train")


def _parse_json(text: str, start: int, captions: Path, split: str, skipped: Skipped) -> list[Record]:
    value, end = parse_value(text, str(captions), start)
    content = typed(value, dict, str(captions))
    if "image" in content:
        return parse_jsonl(text, captions, split, skipped)
    if text[end:].strip():
        line = text.count("\n", 0, end) + 1
        raise CaptionerError(f"{captions} goes on after its JSON ended in line {line}: fetch it again")
    if "annotations" in content:
        return _parse_coco(content, captions, split, skipped)
    if "images" in content:
        return _parse_karpathy(content, captions, skipped)
    raise CaptionerError(_unknown(captions))


def _parse_karpathy(content: dict[str, Any], captions: Path, skipped: Skipped) -> list[Record]:
    def read(value: object, where: str) -> Record:
        entry = typed(value, dict, where)
        if "sentences" not in entry:
            raise CaptionerError(f"{where} has no \"sentences\": give a file with captions, Karpathy's or COCO's")
        name = field(entry, "filename", str, where)
        image = Path(field(entry, "filepath", str, where), name) if "filepath" in entry else Path(name)
        split = field(entry, "split", str, where)
        image_id = identity(entry.get("cocoid", entry.get("imgid", image.as_posix())), where)
        inner = f"a sentence of {where}"
        texts = []
        for sentence in field(entry, "sentences", list, where):
            try:
                texts.append(field(typed(sentence, dict, inner), "raw", str, inner))
            except CaptionerError as error:
                skipped.caption(MALFORMED, name, error)
        # Karpathy's "restval" is the part of COCO's val2014 that his splits leave over; it is for training.
        return Record(image, tuple(texts), "train" if split == "restval" else split, image_id)

    return list(_entries(content, "images", captions, read, skipped.image))


def _parse_coco(content: dict[str, Any], captions: Path, split: str, skipped: Skipped) -> list[Record]:
    def read_caption(value: object, where: str) -> tuple[int | str, str]:
        entry = typed(value, dict, where)
        return identity(entry.get("image_id"), where), field(entry, "caption", str, where)

    def read_image(value: object, where: str) -> Record:
        entry = typed(value, dict, where)
        image_id = identity(entry.get("id"), where)
        return Record(Path(field(entry, "file_name", str, where)), tuple(texts.get(image_id, ())), split, image_id)

    texts: defaultdict[int | str, list[str]] = defaultdict(list)
    for image_id, text in _entries(content, "annotations", captions, read_caption, skipped.caption):
        texts[image_id].append(text)
    records = list(_entries(content, "images", captions, read_image, skipped.image))
    unlisted = sorted(texts.keys() - {record.image_id for record in records}, key=str)
    for image_id in unlisted:
        error = CaptionerError(
            f"{captions} has captions for image id {image_id}, which its images do not list "
            f"({len(unlisted)} such ids): add the image or take its captions out"
        )
        for _ in texts[image_id]:
            skipped.caption("of an image that is not listed", str(image_id), error)
    return records


def _entries(
    content: dict[str, Any],
    name: str,
    captions: Path,
    read: Callable[[object, str], Entry],
    skip: Callable[[str, str, CaptionerError], None],
) -> Iterator[Entry]:
    """Reads the entries of a list, passing over those of a wrong form."""
    values: Sequence[object] = field(content, name, list, str(captions))
    for number, value in enumerate(values):
        try:
            yield read(value, f"{name}[{number}] of {captions}")
        except CaptionerError as error:
            skip(MALFORMED, f"{name}[{number}]", error)


def _parse_flickr8k(
    text: str, captions: Path, splits: Path | None, split: str | None, skipped: Skipped
) -> list[Record]:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = TOKEN_LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            message = f"{captions}, line {number} is not of the form image.jpg#0<TAB>caption: mend it"
            skipped.caption(MALFORMED, f"line {number}", CaptionerError(message))
            continue
        texts[match["image"]].append(match["caption"])
    if splits is None and split is not None:
        return [Record(Path(image), tuple(own), split, image) for image, own in texts.items()]
    records = []
    for part, name in FLICKR8K_SPLITS.items():
        file = (captions.parent if splits is None else splits) / name
        if not file.is_file():
            raise CaptionerError(
                f"split file {file} is missing: name the folder of Flickr8k's three split files (--splits, data.splits)"
            )
        for line in read_text(file).split("\n"):
            image = line.strip()
            if image:
                records.append(Record(Path(image), tuple(texts.get(image, ())), part, image))
    return records


def _parse_csv(text: str, captions: Path, split: str, skipped: Skipped) -> list[Record]:
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
                message = (
                    f"{captions}, line {rows.line_num} has {len(row)} fields where its header has {len(header)}: "
                    f'write a caption that holds a comma in "quotes"'
                )
                skipped.caption(MALFORMED, f"line {rows.line_num}", CaptionerError(message))
                continue
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
