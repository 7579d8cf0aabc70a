"""References and captions to be scored, from files, read with care for what makes scores wrong in silence."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from captioner.data.formats import parse
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError
from captioner.utils.image_ids import match_ids
from captioner.utils.spelling import fold, with_slashes

Id = int | str


@dataclass(frozen=True)
class References:
    """The reference captions of a set of images.

    Attributes:
        captions: Of each image, in the file's order, of the images as of the captions.
        paths: The path of each image, as the file writes it.
        splits: The split of each image.
        left_out: Images that are not scored, though the file has them: those of other splits, and those of which it
            marks all captions as none to score by.
    """

    captions: dict[Id, list[str]]
    paths: dict[Id, str]
    splits: dict[Id, str]
    left_out: frozenset[Id] = frozenset()

    def of_split(self, split: str) -> References:
        """The images of one split."""
        kept = {image: texts for image, texts in self.captions.items() if self.splits[image] == split}
        return References(kept, self.paths, self.splits, self.left_out | (self.captions.keys() - kept.keys()))


def read_references(path: Path, split: str | None = None, splits: Path | None = None) -> References:
    """Read a file of reference captions, of any format that training reads; no picture is needed.

    Captions that VizWiz marks as rejected or canned are left out; a line on standard error tells how many.

    Args:
        path: The file.
        split: The images that are wanted; by default all.
        splits: The folder of split files, for files that do not say which split an image is in.

    Raises:
        CaptionerError: The file cannot be read or has another form, has no such split, or a caption holds a control
            character.
    """
    skipped = Skipped(path)
    records = parse(path, splits, None, skipped, pictures=False)
    skipped.report()
    captions: dict[Id, list[str]] = {}
    for record in records:
        # The official code goes through the images as they are listed, and the order can change tokens.
        captions.setdefault(record.image_id, []).extend(record.captions)
    for image, texts in captions.items():
        _refuse_control_characters(path, image, texts)
    found = References(
        {image: texts for image, texts in captions.items() if texts},
        {record.image_id: record.image.as_posix() for record in records},
        {record.image_id: record.split for record in records},
        frozenset(skipped.left_out("images")),
    )
    if not found.captions:
        raise CaptionerError(f"{path}: has no caption; give a file with reference captions")
    chosen = found if split is None else found.of_split(split)
    if not chosen.captions:
        there = ", ".join(sorted(set(found.splits.values())))
        raise CaptionerError(f"{path}: no image is in split {split!r}; its images are in {there}")
    return chosen


def read_results(path: Path) -> dict[Id, str]:
    """Read one caption an image: COCO's result format, the JSON lines of ``captioner caption``, or another format.

    Args:
        path: The file.

    Returns:
        The caption of each image: by its id, or by its path where it has none.

    Raises:
        CaptionerError: The file cannot be read or has another format, an image has two captions, or a caption contains
            a control character.
    """
    results: dict[Id, str] = {}
    skipped = Skipped(path)
    records = parse(path, None, None, skipped, pictures=False)
    skipped.report()
    for record in records:
        if record.image_id in results or (len(record.captions) > 1 and record.human):
            raise CaptionerError(f"{path}: image {record.image_id!r} has two captions; keep one")
        if not record.captions:
            raise CaptionerError(f"{path}: image {record.image_id!r} has no caption; write one or take it out")
        results[record.image_id] = record.captions[0]  # the best of those of captioner caption --num-captions
    for image, caption in results.items():
        _refuse_control_characters(path, image, [caption])
    if not results:
        raise CaptionerError(f"{path}: has no caption; give a file with one caption an image")
    return results


def align(
    results: Mapping[Id, str], references: References, subset: bool, path: Path
) -> tuple[dict[Id, str], dict[Id, list[str]]]:
    """Align results and references: the same images, in the order of the references.

    A result's image is found by its id, of whatever type, else by its path. Where the results are all of one split, and
    the references of several, the references of that split are taken.

    Args:
        results: The caption of each image.
        references: The references.
        subset: Whether results may cover a part of the images that have references.
        path: The results' file, for messages.

    Raises:
        CaptionerError: The image of a caption has no reference, or an image has no caption and ``subset`` is false.
    """
    found = _find(results, references)
    extra = [image for image in results if image not in found]
    if extra:
        raise CaptionerError(
            f"{path}: image {extra[0]!r}{_more(extra)} has no reference; take it out, or give the annotations of its "
            "images"
        )
    twice = [image for image, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise CaptionerError(f"{path}: image {twice[0]!r} has two captions; keep one")
    captions = {image: results[given] for given, image in found.items() if image not in references.left_out}
    if not captions:
        raise CaptionerError(f"{path}: has no caption of an image that has references")
    there = {references.splits[image] for image in captions}
    if len(there) == 1:
        references = references.of_split(there.pop())
    missing = [image for image in references.captions if image not in captions]
    if missing and not subset:
        raise CaptionerError(
            f"{path}: image {missing[0]!r}{_more(missing)} has no caption; caption all {len(references.captions)} "
            "images, or set subset to score the others alone",
            "subset",
        )
    kept = [image for image in references.captions if image in captions]
    return {image: captions[image] for image in kept}, {image: references.captions[image] for image in kept}


def _find(results: Iterable[Id], references: References) -> dict[Id, Id]:
    """The reference's id for each result's, by id, else by path."""
    known: list[Id] = [*references.captions, *references.left_out]
    found: dict[Id, Id] = {given: image for given, image in match_ids(results, known).items()}  # type: ignore[misc]
    by_name: dict[str, list[tuple[tuple[str, ...], Id]]] = {}
    for image in known:
        parts = _parts(references.paths.get(image, str(image)))
        by_name.setdefault(parts[-1], []).append((parts, image))
    for given in results:
        if given not in found and isinstance(given, str):
            parts = _parts(given)
            alike = by_name.get(parts[-1], [])
            ending = [image for other, image in alike if parts[-len(other) :] == other or other[-len(parts) :] == parts]
            one = ending if len(ending) == 1 else [image for _, image in alike]
            if len(one) == 1:
                found[given] = one[0]
    return found


def _parts(path: str) -> tuple[str, ...]:
    """The folders and the name of a path, however it is spelled."""
    return PurePosixPath(fold(with_slashes(path))).parts or ("",)


def _more(images: list[Id]) -> str:
    return f" (and {len(images) - 1} more)" if len(images) > 1 else ""


def _refuse_control_characters(path: Path, image: Id, captions: Iterable[str]) -> None:
    """Blanks and line breaks are spaces to the tokeniser; anything else would be an accident that nobody sees."""
    for character in {character for caption in captions if not caption.isprintable() for character in caption}:
        if unicodedata.category(character) in ("Cc", "Cs") and not character.isspace():
            raise CaptionerError(
                f"{path}: the caption of image {image!r} holds the control character U+{ord(character):04X}; remove it"
            )
