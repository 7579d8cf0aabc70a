"""Parsers of caption file formats, which return records as written in the file.

The format is detected from the content. Records are raw: image paths are as written, captions may be empty, and nothing
is looked up on disk except split files and a folder's files; ``captioner.data.caption_files`` resolves and checks them.
A malformed entry can be skipped; a truncated file or one of another kind is an error.

- Karpathy's JSON (https://cs.stanford.edu/people/karpathy/deepimagesent/), for Flickr8k, Flickr30k and COCO.
- COCO's caption annotations (https://cocodataset.org/#format-data), and VizWiz's, which flag unusable captions.
- Flickr8k's token file, ``name.jpg#0<TAB>caption``.
- Tables (``captioner.data.tables``): CSV and similar with common column names.
- JSON lines, lists and objects of entries with common field names (``captioner.data.entries``).
- A folder: with ``metadata.jsonl`` or ``metadata.csv`` as in Hugging Face's imagefolder, or with a text file next to
each image.
- Tar shards in WebDataset's layout (``captioner.data.shards``), one or a folder of them.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from pathlib import Path
from typing import Any, TypeVar

from captioner.data.coco import CocoCaptions
from captioner.data.entries import SPLIT_NAMES, UNSAID, Entry, find_columns, flaw, join, read_entry, split_name
from captioner.data.folders import SUFFIXES, find_images
from captioner.data.json_fields import field, fields_of, identity, json_lines, parse_value, quote, read_text, typed
from captioner.data.records import Record
from captioner.data.shards import read_shard
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.data.split_files import assign_splits, has_split_files
from captioner.data.tables import read_table
from captioner.errors import CaptionerError
from captioner.utils.tar_files import END, is_tar

METADATA = ("metadata.jsonl", "metadata.csv")
"""Metadata file names of Hugging Face's imagefolder."""

CAPTION_SUFFIXES = (".txt", ".caption")
"""Extension of a text file with an image's caption."""

TOKEN_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")

SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(?![a-z])")

_FORMS = (
    "give Karpathy's JSON, COCO caption annotations, or objects with a field for the image, such as image or "
    "file_name, and one for its captions, such as captions, caption or text"
)

Element = TypeVar("Element")


@dataclass
class Source:
    """A caption file to parse.

    Attributes:
        captions: The file.
        skipped: Collects malformed entries.
        pictures: Whether each image needs a path; otherwise an id is enough.
        prompts: Whether fields and columns ``prompt`` beside the captions are read.
        folders: The folder in each image's URL, such as ``train2017``, by image id.
    """

    captions: Path
    skipped: Skipped
    pictures: bool = True
    prompts: bool = False
    folders: dict[int | str, str] = attribute(default_factory=dict)
    _is_token_file: bool = attribute(default=False, init=False)

    def records(self, splits: Path | None, split: str | None) -> list[Record]:
        """Parse the records with their splits; see `parse`."""
        records = self._read()
        says = any(record.split != UNSAID for record in records)
        if splits is not None and says:
            raise CaptionerError(
                f"{self.captions} says itself which split an image is in: omit the split files {splits}"
            )
        if (
            splits is None
            and split is None
            and not says
            and self._is_token_file
            and has_split_files(self.captions.parent)
        ):
            splits = self.captions.parent
        if splits is not None:
            return assign_splits(records, splits)
        fallback = split or _split_of_name(self.captions)
        for inner, record in enumerate(records):
            if record.split == UNSAID:
                records[inner] = replace(record, split=fallback)
        return records

    def _read(self) -> list[Record]:
        if os.path.isdir(self.captions):
            return self._folder()
        if is_tar(self.captions):
            return self._captioned([self._shard(self.captions)])
        text = read_text(self.captions)
        if text[_start(text)] != "{" or '"annotations"' not in text or '"images"' not in text:
            return self._text(text)
        coco = CocoCaptions(self.captions, self.skipped, self.pictures)
        content, end = coco.read(text, _start(text))
        if not {"annotations", "images"} <= content.keys():
            return self._text(text)
        self._refuse_more(text, end)
        del text  # freed before the records take as much memory
        return self._coco(coco, content)

    def _coco(self, coco: CocoCaptions, content: dict[str, Any]) -> list[Record]:
        coco.add(content)
        self.folders |= coco.folders
        return coco.records()

    def _text(self, text: str) -> list[Record]:
        start = _start(text)
        if text[start] in "{[":
            return self._json(text, start)
        if TOKEN_LINE.match(text, start):
            self._is_token_file = True
            return self._tokens(text)
        return join(read_table(text, self.captions, self.skipped, self.pictures, self.prompts))

    def _json(self, text: str, start: int) -> list[Record]:
        content, end = parse_value(text, str(self.captions), start)
        rest = text[end:]
        if rest.strip():
            # One object per line, not a whole data set followed by damage.
            is_line = text.find("\n", start, end) < 0 and re.match(r"[ \t\r]*\n", rest)
            if is_line and isinstance(content, dict) and not {"images", "annotations"} & content.keys():
                return self._entries(json_lines(text, str(self.captions)), "line")
            if is_line and isinstance(content, list) and not _are_objects(content):
                return self._list([value for value, _ in json_lines(text, str(self.captions))], "line")
            self._refuse_more(text, end)
        if isinstance(content, list):
            return self._list(content, "entry")
        return self._object(typed(content, dict, str(self.captions)))

    def _refuse_more(self, text: str, end: int) -> None:
        if rest := text[end:].strip():
            line = text.count("\n", 0, end) + 1
            if rest.startswith(","):
                raise CaptionerError(
                    f"{self.captions} has a comma after the JSON that ends in line {line}: write an object a line "
                    "without commas between them, or a list in [ ]"
                )
            raise CaptionerError(f"{self.captions} continues after its JSON ended in line {line}: fetch it again")

    def _object(self, content: dict[str, Any]) -> list[Record]:
        columns = find_columns(tuple(content))
        lists = [name for name, value in content.items() if _are_objects(value)]
        if "annotations" in content and ("images" in content or not _has_image(content["annotations"])):
            return self._coco(CocoCaptions(self.captions, self.skipped, self.pictures), content)
        if "images" in content and not _has_captions(content["images"]):
            return self._karpathy(content)
        if lists and len(lists) == len(content) and all(name.lower() in SPLIT_NAMES for name in lists):
            return self._entries(
                (
                    ({**value, "split": name} if isinstance(value, dict) else value, f"{name}[{n}] of {self.captions}")
                    for name in lists
                    for n, value in enumerate(content[name])
                ),
                "entry",
            )
        if content and all(name.lower() in SPLIT_NAMES and isinstance(value, dict) for name, value in content.items()):
            return [
                replace(record, split=split_name(name)) for name in content for record in self._object(content[name])
            ]
        if {"columns", "data"} <= content.keys() and _are(content["columns"], str) and _are(content["data"], list):
            return self._list([content["columns"], *content["data"]], "row")
        if lists and (len(lists) == 1 or "images" in lists):
            name = "images" if "images" in lists else lists[0]
            return self._list(content[name], name)
        if columns.image and isinstance(content[columns.image], str):
            return self._entries([(content, f"{self.captions}, line 1")], "line")
        if columns.suffice and (rows := _rows_of(content)):
            return self._list(rows, "row")
        if all(isinstance(value, str) or _are(value, str) or _has_captions([value]) for value in content.values()):
            pairs = (
                (({} if _has_image([value]) else {"image": name}) | _entry_of(value), name)
                for name, value in content.items()
            )
            return self._entries(((entry, f"{name!r} of {self.captions}") for entry, name in pairs), "entry")
        raise CaptionerError(f"{self.captions} is a JSON object with the fields {fields_of(content)}: {_FORMS}")

    def _list(self, values: Sequence[object], name: str) -> list[Record]:
        """Entries of a JSON list."""
        if rows := _rows_below_names(values):
            values = rows
        if values and not any(isinstance(value, dict) for value in values):
            raise CaptionerError(f"{self.captions} is a JSON list that begins with {quote(values[0])}: {_FORMS}")
        return self._entries(((value, f"{name}[{n}] of {self.captions}") for n, value in enumerate(values)), name)

    def _entries(self, values: Iterable[tuple[object, str]], name: str) -> list[Record]:
        def read() -> Iterator[Entry]:
            for value, where in values:
                if isinstance(value, dict) and isinstance(value.get("error"), str) and "caption" not in value:
                    self.skipped.leave_out("images", "that could not be captioned", str(value.get("image")))
                    continue
                if isinstance(value, dict) and (reason := flaw(value)):
                    self.skipped.leave_out("captions", reason, where)
                    continue
                try:
                    yield read_entry(typed(value, dict, where), where, self.skipped, self.pictures, self.prompts)
                except CaptionerError as error:
                    short = where.rpartition(", ")[2] if name == "line" else where.partition(" of ")[0]
                    self.skipped.image(MALFORMED, short, error)

        return join(read())

    def _karpathy(self, content: dict[str, Any]) -> list[Record]:
        def read(value: object, where: str) -> Record:
            entry = typed(value, dict, where)
            if "sentences" not in entry:
                raise CaptionerError(f"{where} has no \"sentences\": give a file with captions, Karpathy's or COCO's")
            name = field(entry, "filename", str, where)
            image = Path(field(entry, "filepath", str, where), name) if "filepath" in entry else Path(name)
            split = split_name(field(entry, "split", str, where)) if "split" in entry else UNSAID
            image_id = identity(entry.get("cocoid", entry.get("imgid", image.as_posix())), where)
            inner = f"a sentence of {where}"
            texts = []
            for sentence in field(entry, "sentences", list, where):
                try:
                    is_text = isinstance(sentence, str)
                    texts.append(sentence if is_text else field(typed(sentence, dict, inner), "raw", str, inner))
                except CaptionerError as error:
                    self.skipped.caption(MALFORMED, name, error)
            return Record(image, tuple(texts), split, image_id)

        return list(self._elements(content, "images", read, self.skipped.image))

    def _elements(
        self,
        content: dict[str, Any],
        name: str,
        read: Callable[[object, str], Element],
        skip: Callable[[str, str, CaptionerError], None],
    ) -> Iterator[Element]:
        """Read the elements of a list, skipping malformed ones."""
        values: Sequence[object] = field(content, name, list, str(self.captions))
        for number, value in enumerate(values):
            try:
                yield read(value, f"{name}[{number}] of {self.captions}")
            except CaptionerError as error:
                skip(MALFORMED, f"{name}[{number}]", error)

    def _tokens(self, text: str) -> list[Record]:
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            match = TOKEN_LINE.fullmatch(line.rstrip("\r"))
            if match is None:
                message = f"{self.captions}, line {number} is not of the form image.jpg#0<TAB>caption: fix it"
                self.skipped.caption(MALFORMED, f"line {number}", CaptionerError(message))
                continue
            texts[match["image"]].append(match["caption"])
        return [Record(Path(image), tuple(own), UNSAID, image) for image, own in texts.items()]

    def _folder(self) -> list[Record]:
        """Read the captions of a folder: metadata files, else tar shards and text files next to images."""
        root = self.captions
        found = sorted(path for name in METADATA for path in root.rglob(name))
        if found:
            chosen = {path.parent: path for path in reversed(found)}  # if both exist, one is enough
            return [record for path in sorted(chosen.values()) for record in self._metadata(path)]
        shards = [self._shard(path) for path in sorted(root.rglob(f"*{END}")) if is_tar(path)]
        return self._captioned([*shards, self._text_files()])

    def _captioned(self, parts: Iterable[list[Record]]) -> list[Record]:
        """Join the records of images, at least one of which must have captions."""
        records = [record for part in parts for record in part]
        if not any(record.captions for record in records):
            raise CaptionerError(
                f"{self.captions}: {len(records)} images and no captions; give a caption file, or write metadata.csv "
                "(file_name,text) or a .txt beside each picture, in a shard a .txt or .json"
            )
        return records

    def _text_files(self) -> list[Record]:
        records = []
        for picture in find_images(self.captions):
            beside = next((file for end in CAPTION_SUFFIXES if (file := picture.with_suffix(end)).is_file()), None)
            image = picture.relative_to(self.captions)
            lines = read_lines(beside) if beside else []
            records.append(Record(image, tuple(lines), _split_of_folder(image), image.as_posix()))
        return records

    def _shard(self, path: Path) -> list[Record]:
        """Read a shard; its JSON, its folder's name or its own name gives the split."""
        name = Path(path.name) if path == self.captions else path.relative_to(self.captions)
        folder = _split_of_folder(name)
        split = _split_in(path.stem, UNSAID) if folder == UNSAID else folder
        records = join(read_shard(path, name, self.skipped))
        return [replace(record, split=split) if record.split == UNSAID else record for record in records]

    def _metadata(self, path: Path) -> list[Record]:
        below = path.parent.relative_to(self.captions)
        part = Source(path, self.skipped, self.pictures, self.prompts)
        split = _split_of_folder(below / path.name)
        return [
            replace(
                record,
                image=below / record.image,
                image_id=(below / record.image).as_posix() if record.image_id == str(record.image) else record.image_id,
                split=split if record.split == UNSAID else record.split,
            )
            for record in part._read()
        ]


def parse(
    captions: Path, splits: Path | None, split: str | None, skipped: Skipped | None = None, pictures: bool = True
) -> list[Record]:
    """Parse a caption file, or a folder, of any of the formats.

    Args:
        captions: The file or folder.
        splits: Folder of files that list the images of each split; see ``captioner.data.split_files``.
        split: The split of images for which the file has none.
        skipped: Collects malformed entries; by default there may be none.
        pictures: Whether each image needs a path; otherwise an id is enough, and used as the path.

    Raises:
        CaptionerError: The file cannot be read, or is of no known format, or is damaged.
    """
    return Source(captions, skipped or Skipped(captions), pictures).records(splits, split)


def read_lines(path: Path) -> list[str]:
    """The non-blank lines of a text file.

    Raises:
        CaptionerError: It cannot be read.
    """
    if path.stat().st_size == 0:
        return []
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _start(text: str) -> int:
    """Index of the first character that is not white space."""
    match = re.match(r"\s*", text)
    return match.end() if match else 0


def _split_of_name(captions: Path) -> str:
    """Infer the split from a file's name (captions_val2017.json), or for metadata from its folder's; else train."""
    if os.path.isdir(captions):
        return SPLIT_NAMES.get(captions.name.lower(), "train")
    name = captions.parent.name if captions.name in METADATA else captions.stem
    return _split_in(name, "train")


def _split_in(name: str, otherwise: str) -> str:
    """The split that a name has in it."""
    said = SPLIT_WORD.search(name.lower())
    return split_name(said[1]) if said else otherwise


def _split_of_folder(path: Path) -> str:
    """The split named by the first folder of a path."""
    first = path.parts[0].lower() if len(path.parts) > 1 else ""
    return SPLIT_NAMES.get(first, UNSAID)


def _are(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) for each in value)


def _first_object(values: object) -> dict[str, Any]:
    objects = (value for value in values if isinstance(value, dict)) if isinstance(values, list) else iter(())
    return next(objects, {})


def _entry_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"captions": value}


def _has_image(values: object) -> bool:
    columns = find_columns(tuple(_first_object(values)))
    return columns.suffice and columns.image is not None


def _has_captions(values: object) -> bool:
    first = _first_object(values)
    return "sentences" not in first and bool(find_columns(tuple(first)).captions)


def _rows_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a JSON table stored by column, as lists or as objects by row; None for other JSON."""
    columns = [list(value.values()) if isinstance(value, dict) else value for value in content.values()]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
        return []
    return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]


def _rows_below_names(values: Sequence[object]) -> list[dict[str, Any]]:
    """Rows of a JSON list of lists: below a row of names, or each with an image and its captions; None for others."""
    rows = [value for value in values if isinstance(value, list)]
    if not rows or len(rows) != len(values) or not _are(rows[0][:1], str):
        return []
    if _are(rows[0], str) and find_columns(tuple(rows[0])).suffice:
        names, rows = rows[0], rows[1:]
    elif Path(rows[0][0]).suffix.lower() in SUFFIXES:
        names = ["image", "captions"]
    else:
        return []
    return [dict(zip(names, row, strict=True)) for row in rows] if {len(row) for row in rows} == {len(names)} else []
