"""Brings captioned photographs of everything together as one data set, ``data/everyday``.

    python tools/data/prepare_everyday.py --everyday DIR --more DIR --flickr8k DIR

``--everyday`` is a folder with ``captions.jsonl`` and ``flickr8k_tags.jsonl``, ``--more`` one with further pictures in
the same form (``captions.jsonl``, whose rows may say which picture of the first they replace), ``--flickr8k`` the
folder of Flickr8k with Karpathy's splits. Afterwards ``data/everyday`` holds ``captions.jsonl``, with the detector's
tags, ``by_people.jsonl``, the rows whose captions people wrote, and a link to each of the three folders; no picture is
copied.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError
from captioner.utils.files import replacing

EVERYDAY, MORE, FLICKR8K = "everyday", "more", "flickr8k"
"""The links to the folders, and the first parts of the pictures' paths."""


def prepare(everyday: Path, more: Path, flickr8k: Path, output: Path) -> Counter[str]:
    """Writes the data set.

    Args:
        everyday: The first folder.
        more: The folder with further pictures.
        flickr8k: The folder with ``dataset_flickr8k.json`` and ``images``.
        output: The folder of the data set.

    Returns:
        How many pictures each split has.

    Raises:
        CaptionerError: A file is missing or of another form.
    """
    further = list(_rows(more / "captions.jsonl"))
    replaced = {row["replaces"] for row in further if row.get("replaces")}
    first = [row for row in _rows(everyday / "captions.jsonl") if row["image"] not in replaced]
    tags = {row["image"]: row["tags"] for row in _rows(everyday / "flickr8k_tags.jsonl")}
    rows = [
        *({**row, "image": f"{MORE}/{row['image']}"} for row in further),
        *({**row, "image": f"{EVERYDAY}/{row['image']}"} for row in first),
        *_flickr8k(flickr8k / "dataset_flickr8k.json", tags),
    ]
    output.mkdir(parents=True, exist_ok=True)
    for name, folder in ((EVERYDAY, everyday), (MORE, more), (FLICKR8K, flickr8k)):
        link = output / name
        link.unlink(missing_ok=True)
        link.symlink_to(folder.resolve())
    _write(output / "captions.jsonl", rows)
    _write(output / "by_people.jsonl", [row for row in rows if row["human"]])
    return Counter(row["split"] for row in rows)


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    kept = ("image", "captions", "split", "source", "human", "tags")
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for row in rows:
            line = {name: row[name] for name in kept if name in row}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def _flickr8k(file: Path, tags: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for image in _read(file)["images"]:
        name = image["filename"]
        yield {
            "image": f"{FLICKR8K}/images/{name}",
            "captions": [sentence["raw"] for sentence in image["sentences"]],
            "split": image["split"],
            "source": "flickr8k",
            "human": True,
            "tags": tags.get(name, []),
        }


def _read(file: Path) -> Any:  # noqa: ANN401 (JSON)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaptionerError(f"{file}: cannot be read ({error}); give the folder that has it") from error


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise CaptionerError(f"{file}: cannot be read ({error}); give the folder that has it") from error


def main(arguments: Sequence[str]) -> int:
    """Prepares the data and says what is there."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (EVERYDAY, MORE, FLICKR8K):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, default=Path("data/everyday"), metavar="DIR")
    args = parser.parse_args(arguments)
    try:
        splits = prepare(args.everyday, args.more, args.flickr8k, args.output)
    except CaptionerError as error:
        print(f"prepare_everyday: {error}", file=sys.stderr)
        return 2
    parts = ", ".join(f"{split} {count}" for split, count in splits.items())
    print(f"{args.output / 'captions.jsonl'}: {sum(splits.values())} pictures ({parts})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
