"""COCO's caption annotations, collected entry by entry: of 123,287 pictures, their JSON would fill half a gigabyte."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from captioner.data.entries import UNSAID
from captioner.data.json_fields import field, identity, parse_members, typed
from captioner.data.records import Record
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.errors import CaptionerError

_LEFT_OUT = {"is_rejected": "rejected", "is_precanned": "canned"}
"""What VizWiz's annotations say of texts that describe nothing, and what messages call them."""

Id = int | str


class CocoCaptions:
    """The images and captions of an annotation file.

    Args:
        captions: The file, for messages.
        skipped: Takes entries of a wrong form, and captions that the file marks as none.
        pictures: Whether the path of each picture is needed; else its id will do.

    Attributes:
        folders: For image ids, the folder that the picture's address names, such as ``train2017``.
    """

    def __init__(self, captions: Path, skipped: Skipped, pictures: bool) -> None:
        self.folders: dict[Id, str] = {}
        self._captions = captions
        self._skipped = skipped
        self._pictures = pictures
        self._texts: dict[Id, list[str]] = {}
        self._images: list[tuple[Id, str]] = []
        self._left_out: set[Id] = set()
        # What is wrong is reported when it is sure that these are annotations.
        self._faults: list[Callable[[], None]] = []

    def read(self, text: str, start: int) -> tuple[dict[str, Any], int]:
        """Take the entries of a file.

        Args:
            text: JSON of an object.
            start: Where it begins.

        Returns:
            The object without the entries, and the index after its end.

        Raises:
            CaptionerError: It is not JSON.
        """
        lists = {"annotations": self.add_caption, "images": self.add_image}
        return parse_members(text, str(self._captions), start, lists)

    def add(self, content: dict[str, Any]) -> None:
        """Take the entries of a file that is parsed already.

        Raises:
            CaptionerError: There are none of captions, or none of images where they are needed.
        """
        takers: dict[str, Callable[[int, object], None]] = {"annotations": self.add_caption, "images": self.add_image}
        for name, take in takers.items():
            if name in content or name == "annotations" or self._pictures:
                for number, value in enumerate(field(content, name, list, str(self._captions))):
                    take(number, value)

    def add_caption(self, number: int, value: object) -> None:
        """Take an entry of ``annotations``."""
        try:
            entry = typed(value, dict, "")
            image_id, text = entry["image_id"], entry["caption"]
            if type(image_id) is not int or type(text) is not str:
                raise KeyError
        except (CaptionerError, KeyError):  # told with its place, which would take long to write for every entry
            where = f"annotations[{number}] of {self._captions}"
            try:
                entry = typed(value, dict, where)
                image_id = identity(entry.get("image_id"), where)
                text = field(entry, "caption", str, where)
            except CaptionerError as error:
                self._faults.append(partial(self._skipped.caption, MALFORMED, f"annotations[{number}]", error))
                return
        for name, reason in _LEFT_OUT.items():
            if entry.get(name) is True:
                self._faults.append(partial(self._skipped.leave_out, "captions", reason, image_id))
                self._left_out.add(image_id)
                return
        self._texts.setdefault(image_id, []).append(text)

    def add_image(self, number: int, value: object) -> None:
        """Take an entry of ``images``."""
        where = f"images[{number}] of {self._captions}"
        try:
            entry = typed(value, dict, where)
            image_id = identity(entry.get("id"), where)
            if not self._pictures and not isinstance(entry.get("file_name"), str):
                name = str(image_id)
            else:
                name = field(entry, "file_name", str, where)
        except CaptionerError as error:
            self._faults.append(partial(self._skipped.image, MALFORMED, f"images[{number}]", error))
            return
        self._images.append((image_id, name))
        if folder := _folder_of(entry.get("coco_url")):
            self.folders[image_id] = sys.intern(folder)

    def records(self) -> list[Record]:
        """The images with their captions; can be asked for once.

        Raises:
            CaptionerError: An entry has a wrong form, and none may be skipped.
        """
        for print_status in self._faults:
            print_status()
        known = {image_id for image_id, _ in self._images}
        unlisted = [image_id for image_id in self._texts if image_id not in known]
        if self._pictures:
            self._tell_unlisted(sorted(unlisted, key=str))
        else:
            self._images += [(image_id, str(image_id)) for image_id in unlisted]
        records = []
        for image_id, name in self._images:
            texts = self._texts.get(image_id, ())
            # An image of which no caption is left is none to learn from or to be scored on, and no fault of the file's.
            if not texts and image_id in self._left_out:
                self._skipped.leave_out("images", "with no other caption", image_id)
            else:
                records.append(Record(Path(name), tuple(texts), UNSAID, image_id))
        self._texts.clear()
        self._images.clear()
        return records

    def _tell_unlisted(self, images: list[Id]) -> None:
        for image_id in images:
            error = CaptionerError(
                f"{self._captions} has captions for image id {image_id}, which its images do not list "
                f"({len(images)} such ids): add the image or take its captions out"
            )
            for _ in self._texts[image_id]:
                self._skipped.caption("of an image that is not listed", str(image_id), error)


def _folder_of(address: object) -> str:
    """The last folder of an address, such as train2017 of http://images.cocodataset.org/train2017/1.jpg; or none."""
    if not isinstance(address, str):
        return ""
    name = urlsplit(address).path.rpartition("/")[0].rpartition("/")[2]
    return name if re.fullmatch(r"\w[\w.-]*", name) else ""
