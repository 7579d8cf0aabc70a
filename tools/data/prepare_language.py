"""Writes ``data/flickr8k/LANGUAGE.jsonl``: captions of Flickr8k in one language, for configs/flickr8k/language.yaml.

    python tools/data/prepare_language.py de captions.jsonl

The captions are those that people have published in any form that training reads, such as JSON lines ``{"image": …,
"captions": […], "split": …}``. What is validated and tested on stays as they wrote it. What is trained on is spelled
alike: in a script with capitals, a caption begins with one and ends with a full stop. Of German ones some were typed
without capitals: every German sentence has a noun, so that one without a capital behind its first letter is misspelled
and left out.

Each row has the language as its ``prompt``, for configs/flickr8k/two_languages.yaml; ``--pictures`` keeps the first so
many training pictures, and ``--like`` the pictures of another such file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from captioner.data.formats import parse
from captioner.errors import CaptionerError
from captioner.utils.files import replacing

FOLDER = Path("data/flickr8k")
_ENDS = ".!?…"


def tidy(captions: Iterable[str], language: str) -> Iterator[str]:
    """Spell captions alike; German ones without a noun's capital are left out."""
    for caption in captions:
        text = re.sub(r" (?=[.,])", "", " ".join(caption.split()))
        if text.lower() == text.upper():  # a script without capitals
            yield text
        elif language != "de" or text[1:] != text[1:].lower():
            yield text[0].upper() + text[1:].rstrip(" ,;:") + ("" if text[-1] in _ENDS else ".")


def write_language(
    output: Path, source: Path, language: str, pictures: int | None = None, like: Path | None = None
) -> str:
    """Writes the captions to train, validate and test on.

    Args:
        output: The file to write: JSON lines.
        source: The captions as they were published.
        language: Their language, a tag such as ``de``.
        pictures: Number of pictures to train on, at most; None for all.
        like: A file whose pictures are kept and no others.

    Returns:
        What was written, in one line.

    Raises:
        CaptionerError: A file cannot be read or written, or there are less than 1 pictures.
    """
    if pictures is not None and pictures < 1:
        raise CaptionerError(f"{pictures} pictures leave nothing to train on; give at least 1")
    records = parse(source, None, None)
    if like:
        listed = {record.image for record in parse(like, None, None)}
        records = [record for record in records if record.image in listed]
    kept = {"train": 0, "val": 0, "test": 0}
    lines, trained_on, left_out = [], 0, 0
    for record in records:
        captions: Sequence[str] = record.captions
        if record.split == "train":
            if trained_on == pictures:
                continue
            captions = [*tidy(record.captions, language)]
            left_out += len(record.captions) - len(captions)
            trained_on += bool(captions)
        if captions:
            kept[record.split] += len(captions)
            row = {"image": str(record.image), "captions": captions, "split": record.split, "prompt": language}
            lines.append(json.dumps(row, ensure_ascii=False))
    with replacing(output) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    counts = ", ".join(f"{count} for {split}" for split, count in kept.items())
    told = f"; {left_out} without capitals are left out" if left_out else ""
    return f"{output}: captions of {len(lines)} pictures: {counts}{told}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("language", help="the captions' language, such as de or ar")
    parser.add_argument("captions", type=Path, help="the published captions")
    parser.add_argument("--output", type=Path, help=f"the file to write (default: {FOLDER}/LANGUAGE.jsonl)")
    parser.add_argument("--pictures", type=int, metavar="N", help="of the pictures to train on, the first N")
    parser.add_argument("--like", type=Path, metavar="FILE", help="only the pictures of another such file")
    args = parser.parse_args(arguments)
    output = args.output or FOLDER / f"{args.language}.jsonl"
    try:
        print(write_language(output, args.captions, args.language, args.pictures, args.like))
    except CaptionerError as error:
        print(f"prepare_language: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
