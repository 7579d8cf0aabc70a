"""Output forms of captions, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captioner.sidecars import alt_texts, coco, csv_file, embedded, metadata_jsonl, shards, text_files, xmp_files
from captioner.sidecars.targets import Maker, Target

TEXT_FILES = ("txt", "caption")
OF_PICTURES = (*TEXT_FILES, xmp_files.FORM, embedded.FORM)
"""Forms with one file per image."""

OF_FOLDERS = (metadata_jsonl.FORM, csv_file.FORM, coco.FORM)
"""Forms with one file per folder."""

WITH_MARKS = (xmp_files.FORM, embedded.FORM)
"""Forms whose files record themselves what this program wrote."""

FORMS = (*OF_PICTURES, *OF_FOLDERS, alt_texts.FORM, shards.FORM)


def of_picture(form: str, picture: Path, xmp_name: str, maker: Maker) -> Target:
    """Open the file for the caption of one image."""
    if form in TEXT_FILES:
        return text_files.target(picture, form)
    return xmp_files.target(picture, xmp_name, maker) if form == xmp_files.FORM else embedded.Picture(picture, maker)


def of_folder(form: str, folder: Path, pictures: Sequence[Path]) -> Target:
    """Open the file for the captions of a folder."""
    module = {metadata_jsonl.FORM: metadata_jsonl, csv_file.FORM: csv_file, coco.FORM: coco}[form]
    target: Target = module.target(folder, pictures)
    return target


def of_file(form: str, path: Path, maker: Maker) -> Target:
    """Open a file with captions, to remove them."""
    if form == xmp_files.FORM:
        return xmp_files.of_file(path, maker)
    if form == embedded.FORM:
        return embedded.Picture(path, maker)
    if form in TEXT_FILES:
        return Target(form, path, {}, text_files.TextFile)
    if form in OF_FOLDERS:
        return of_folder(form, path.parent, ())
    if form == shards.FORM:
        return shards.Shard(path)
    return Target(form, path, {}, lambda content: alt_texts.read_page(path, content), is_shared=True)
