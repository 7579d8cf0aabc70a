"""Reproduce the validation split that training draws."""

from __future__ import annotations

from pathlib import Path

from captioner.data.caption_files import read_records
from captioner.data.filters import usable, with_words
from captioner.data.records import Record
from captioner.data.skip_report import Skipped
from captioner.data.split_files import draw_validation
from captioner.errors import CaptionerError

DRAWN_SPLITS = ("train", "val")


def read_drawn(
    captions: Path,
    images: Path | None,
    splits: Path | None,
    anywhere: bool,
    split: str,
    share: float,
    seed: int,
    max_skipped: float,
    prompts: bool = False,
) -> list[Record]:
    """Read the records of a split that training draws with ``val_share`` and ``val_seed``.

    Unusable records are skipped first, as in training, and reported on standard error.

    Args:
        captions: The caption file.
        images: Folder of the images, as for `read_records`.
        splits: Folder of split files.
        anywhere: Whether the file may refer to images outside their folder.
        split: ``val`` for the drawn images, ``train`` for the others.
        share: ``data.val_share`` of the training, in (0, 1).
        seed: ``data.val_seed`` of the training.
        max_skipped: Share of the images, and of the captions, that may be skipped, in [0, 1].
        prompts: Whether prompts are read, as for `read_records`.

    Raises:
        CaptionerError: The file is unusable or has a validation split, or the share is out of range.
    """
    if not 0 < share < 1:
        raise CaptionerError(f"the share drawn for validation is {share}; it must be greater than 0 and less than 1")
    if split not in DRAWN_SPLITS:
        raise CaptionerError(f"split {split!r} is not drawn; choose val, or train for the images that are left")
    skipped = Skipped(captions, max_skipped)
    records = read_records(
        captions, images, splits, anywhere=anywhere, wanted=DRAWN_SPLITS, skipped=skipped, prompts=prompts
    )
    if any(record.split == "val" for record in records):
        raise CaptionerError(f"{captions}: has a split 'val', beside which none is drawn; leave out the share")
    records = usable(with_words(records, skipped), skipped)
    skipped.report()
    return [record for record in draw_validation(records, share, seed) if record.split == split]
