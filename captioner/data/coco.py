"""COCO caption annotations, collected entry by entry: the parsed JSON of 123,287 images would take half a gigabyte."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from captioner.data.entries import UNSAID, flaw, split_name
from captioner.data.json_fields import field, identity, parse_members, typed
from captioner.data.records import Record
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.errors import CaptionerError
from captioner.utils.image_ids import match_ids

Id = int | str


class CocoCaptions:
    """The images and captions of an annotation file.

    Args:
        captions: The file, for messages.
        skipped: Collects malformed entries, and captions that the file flags as unusable.
        pictures: Whether each image needs a path; otherwise an id is enough.

    Attributes:
        folders: The folder in each image's URL, such as ``train2017``, by image id.
    """

    def __init__(self, captions: Path, skipped: Skipped, pictures: bool) -> None:
        self.folders: dict[Id, str] = {}
        self._captions = captions
        self._skipped = skipped
        self._pictures = pictures
        self._texts: dict[Id, list[str]] = {}
        self._images: list[tuple[Id, str]] = []
        self._splits: dict[Id, str] = {}
        self._left_out: set[Id] = set()
        # Errors are reported once the file is known to hold annotations.
        self._faults: list[Callable[[], None]] = []

    def read(self, text: str, start: int) -> tuple[dict[str, Any], int]:
        """Add the entries of a file.

        Args:
            text: JSON of an object.
            start: Where it begins.

        Returns:
            The object without these entries, and the index after its end.

        Raises:
            CaptionerError: It is not JSON.
        """
        lists = {"annotations": self.add_caption, "images": self.add_image}
        return parse_members(text, str(self._captions), start, lists)

    def add(self, content: dict[str, Any]) -> None:
        """Add the entries of a parsed file.

        Raises:
            CaptionerError: The list of captions is missing, or that of images if needed.
        """
        takers: dict[str, Callable[[int, object], None]] = {"annotations": self.add_caption, "images": self.add_image}
        for name, take in takers.items():
            if name in content or name == "annotations" or self._pictures:
                for number, value in enumerate(field(content, name, list, str(self._captions))):
                    take(number, value)

    def add_caption(self, number: int, value: object) -> None:
        """Add an entry of ``annotations``."""
        try:
            entry = typed(value, dict, "")
            image_id, text = entry["image_id"], entry["caption"]
            if type(image_id) is not int or type(text) is not str:
                raise KeyError
            texts = [text]
        except (CaptionerError, KeyError):  # only now is the position formatted, which is slow
            where = f"annotations[{number}] of {self._captions}"
            try:
                entry = typed(value, dict, where)
                image_id = identity(entry.get("image_id"), where)
                text = entry.get("caption")
                texts = text if isinstance(text, list) else [field(entry, "caption", str, where)]
                texts = [typed(each, str, f"a caption of {where}") for each in texts]
            except CaptionerError as error:
                self._faults.append(partial(self._skipped.caption, MALFORMED, f"annotations[{number}]", error))
                return
        if reason := flaw(entry):
            self._faults.append(partial(self._skipped.leave_out, "captions", reason, image_id))
            self._left_out.add(image_id)
            return
        self._texts.setdefault(image_id, []).extend(texts)

    def add_image(self, number: int, value: object) -> None:
        """Add an entry of ``images``."""
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
        if isinstance(split := entry.get("split"), str):
            self._splits[image_id] = split_name(split)
        if folder := _folder_of(entry.get("coco_url")):
            self.folders[image_id] = sys.intern(folder)

    def records(self) -> list[Record]:
        """Build the records; can be called once.

        Raises:
            CaptionerError: An entry is malformed, and nothing may be skipped.
        """
        for print_status in self._faults:
            print_status()
        known = {image_id for image_id, _ in self._images}
        unlisted = [image_id for image_id in self._texts if image_id not in known]
        if unlisted:
            unlisted = self._match_types(unlisted)
        if self._pictures:
            self._tell_unlisted(sorted(unlisted, key=str))
        else:
            self._images += [(image_id, str(image_id)) for image_id in unlisted]
        records = []
        for image_id, name in self._images:
            texts = self._texts.get(image_id, ())
            # An image left without captions can be neither trained nor scored on, which is no error of the file.
            if not texts and image_id in self._left_out:
                self._skipped.leave_out("images", "with no other caption", image_id)
            else:
                records.append(Record(Path(name), tuple(texts), self._splits.get(image_id, UNSAID), image_id))
        self._texts.clear()
        self._images.clear()
        return records

    def _match_types(self, unlisted: list[Id]) -> list[Id]:
        """Gives captions of the image "1" to the image 1, and the other way round; returns those of neither."""
        for written, image_id in match_ids(unlisted, (image_id for image_id, _ in self._images)).items():
            self._texts.setdefault(cast(Id, image_id), []).extend(self._texts.pop(cast(Id, written)))
        return [image_id for image_id in unlisted if image_id in self._texts]

    def _tell_unlisted(self, images: list[Id]) -> None:
        for image_id in images:
            error = CaptionerError(
                f"{self._captions} has captions for image id {image_id}, which its images do not list "
                f"({len(images)} such ids): add the image or take its captions out"
            )
            for _ in self._texts[image_id]:
                self._skipped.caption("of an image that is not listed", str(image_id), error)


def _folder_of(address: object) -> str:
    """The last folder of a URL, such as train2017 of http://images.cocodataset.org/train2017/1.jpg."""
    if not isinstance(address, str):
        return ""
    name = urlsplit(address).path.rpartition("/")[0].rpartition("/")[2]
    return name if re.fullmatch(r"\w[\w.-]*", name) else ""
