"""Survey of a job: the images and pages in its inputs, and the target files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.folders import find_images
from captioner.errors import CaptionerError
from captioner.sidecars import alt_texts, forms
from captioner.sidecars.targets import Maker, Row, Target


@dataclass(frozen=True)
class Wish:
    """The request.

    Attributes:
        paths: Images, pages, and folders of them.
        forms: Names of `captioner.sidecars.forms.FORMS`, without ``tar``.
        xmp_name: Naming of sidecars, one of `captioner.sidecars.xmp_files.NAMES`.
    """

    paths: Sequence[Path]
    forms: Sequence[str]
    xmp_name: str


class Survey:
    """Images and the targets of their captions.

    Args:
        wish: The request.
        maker: The model and program version that made the captions.
        report: Called with errors.

    Attributes:
        pictures: All images, each once.
        shared: Target files for several images.

    Raises:
        CaptionerError: An input has neither images nor pages.
    """

    def __init__(self, wish: Wish, maker: Maker, report: Callable[[Row], None]) -> None:
        self._forms = [form for form in wish.forms if form in forms.OF_PICTURES]
        self._xmp_name = wish.xmp_name
        self._maker = maker
        self._report = report
        self.shared: list[Target] = []
        self._by_picture: dict[str, list[Target]] = {}
        pages, by_folder = _found(wish)
        self._described = {os.path.abspath(picture) for group in by_folder.values() for picture in group}
        for folder, pictures in by_folder.items():
            self._add_tables([form for form in wish.forms if form in forms.OF_FOLDERS], folder, pictures)
        for page, root in pages:
            self._add(alt_texts.target, page, page, root)
        shown = {os.path.abspath(picture): picture for target in self.shared for picture in target.pictures.values()}
        given = [picture for group in by_folder.values() for picture in group]
        self.pictures = [*given, *(picture for name, picture in shown.items() if name not in self._described)]
        self._users: dict[Path, list[Path]] = {}
        for picture in given:
            for path in self._own_paths(picture):
                self._users.setdefault(path, []).append(picture)

    @property
    def paths(self) -> Iterator[Path]:
        """The target files."""
        yield from self._users
        yield from (target.path for target in self.shared)

    def targets(self, picture: Path) -> list[Target]:
        """The target of an image's caption; names shared by two images are reported and skipped."""
        name = os.path.abspath(picture)
        shared = self._by_picture.get(name, [])
        if name not in self._described:
            return shared
        own = []
        for form in self._forms:
            target = forms.of_picture(form, picture, self._xmp_name, self._maker)
            others = [other for other in self._users[target.path] if other != picture]
            if others:
                self._report(clash(target.path, picture, others[0]))
            else:
                own.append(target)
        return own + shared

    def _own_paths(self, picture: Path) -> list[Path]:
        return [forms.of_picture(form, picture, self._xmp_name, self._maker).path for form in self._forms]

    def _add_tables(self, names: Sequence[str], folder: Path, pictures: Sequence[Path]) -> None:
        good = []
        for picture in pictures if names else ():
            if _is_utf8(picture):
                good.append(picture)
            else:
                self._report(Row("error", picture, f"{picture}: its name is not UTF-8; rename it"))
        for form in names:
            self._add(forms.of_folder, folder, form, folder, good)

    def _add(self, make: Callable[..., Target], path: Path, *arguments: object) -> None:
        try:
            target = make(*arguments)
        except CaptionerError as error:
            self._report(Row("error", path, str(error)))
            return
        self.shared.append(target)
        for picture in target.pictures.values():
            targets = self._by_picture.setdefault(os.path.abspath(picture), [])
            if target not in targets:
                targets.append(target)


def clash(path: Path, picture: Path, other: Path) -> Row:
    """The error for an image whose target is another image's."""
    return Row("error", path, f"{picture}: {other.name} would have the same {path.name}; rename one of the two")


def _found(wish: Wish) -> tuple[list[tuple[Path, Path]], dict[Path, list[Path]]]:
    """Pages with the folder that must contain their images, and images by input folder."""
    pages: dict[Path, Path] = {}
    by_folder: dict[Path, list[Path]] = {}
    seen: set[str] = set()
    is_for_pages = alt_texts.FORM in wish.forms
    is_for_pictures = any(form != alt_texts.FORM for form in wish.forms)
    for path in wish.paths:
        root = path if path.is_dir() else path.parent
        found = list(alt_texts.find_pages(path)) if is_for_pages else []
        for page in found:
            pages.setdefault(page, root)
        pictures = [] if path in found or not is_for_pictures else list(find_images(path))
        if not found and not pictures:
            what = "pictures" if is_for_pictures else "HTML or Markdown files"
            raise CaptionerError(f"{path}: has no {what}; give a folder that does")
        for picture in pictures:
            if (name := os.path.abspath(picture)) not in seen:
                seen.add(name)
                by_folder.setdefault(root, []).append(picture)
    return list(pages.items()), by_folder


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
