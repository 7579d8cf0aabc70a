"""What of a data set is skipped: counted, named, and too much of it refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from captioner.errors import CaptionerError
from captioner.utils.console import print_status

Kind: TypeAlias = Literal["images", "captions"]

USUAL_SHARE = 0.01
"""Of a data set's images, and of its captions, that may be unusable: more is no dirt but a mistake."""

MALFORMED = "of a wrong form"

_NAMED = 3
"""Names that stand beside each reason."""


class Skipped:
    """The images and captions of one file that cannot be used, by reason.

    Args:
        source: The caption file.
        most: Share of its images, and of its captions, that may be skipped, in [0, 1]. With 0 none may, and the
            first raises what is wrong with it.

    Raises:
        CaptionerError: The share is not within its bounds.
    """

    def __init__(self, source: Path, most: float = 0.0) -> None:
        if not 0 <= most <= 1:
            raise CaptionerError(f"the share that may be skipped is {most}; it must be at least 0 and at most 1")
        self.source = source
        self.most = most
        self._found: dict[Kind, dict[str, list[str]]] = {"images": {}, "captions": {}}
        self._first: dict[Kind, CaptionerError] = {}
        self._left_out: dict[Kind, dict[str, list[int | str]]] = {"captions": {}, "images": {}}

    @property
    def images(self) -> int:
        """How many images are skipped."""
        return self._count("images")

    @property
    def captions(self) -> int:
        """How many captions are skipped, beside those of images that are."""
        return self._count("captions")

    def image(self, reason: str, name: str, error: CaptionerError) -> None:
        """Skip an image.

        Args:
            reason: What many images have in common, as it stands after their number: "3 missing".
            name: The image, or its place in the file.
            error: What is wrong with it, with the cure.

        Raises:
            CaptionerError: ``error``, where nothing may be skipped.
        """
        self._add("images", reason, name, error)

    def caption(self, reason: str, name: str, error: CaptionerError) -> None:
        """Skip a caption; as `image`."""
        self._add("captions", reason, name, error)

    def leave_out(self, kind: Kind, reason: str, name: int | str) -> None:
        """Take what the file itself marks as not to be used, which is no fault of it.

        Args:
            kind: Whether it is an image or a caption.
            reason: What the mark says, as it stands after the number: "3 rejected".
            name: The image.
        """
        self._left_out[kind].setdefault(reason, []).append(name)

    def left_out(self, kind: Kind) -> list[int | str]:
        """The names of what was left out."""
        return [name for names in self._left_out[kind].values() for name in names]

    def refuse_too_many(self, images: int, captions: int) -> None:
        """Hold what is skipped against what is left.

        Args:
            images: Images that are used.
            captions: Captions that are used.

        Raises:
            CaptionerError: More than the share is skipped.
        """
        used: dict[Kind, int] = {"images": images, "captions": captions}
        for kind, first in self._first.items():
            count, total = self._count(kind), self._count(kind) + used[kind]
            if count > self.most * total:
                raise CaptionerError(
                    f"{count} of {total} {kind} of {self.source} cannot be used ({self._reasons(kind)}; first error: "
                    f"{first}), more than the share of {self.most} that may be skipped; fix the data or raise "
                    "max_skipped",
                    "max_skipped",
                )

    def report(self) -> None:
        """Say on standard error what is skipped, if anything is."""
        kinds = [f"{self._count(kind)} {kind} ({self._reasons(kind)})" for kind in self._found if self._found[kind]]
        if kinds:
            print_status(f"captioner: {str(self.source)!r}: skipped {' and '.join(kinds)}")
        marked = [
            f"{sum(map(len, reasons.values()))} {kind} "
            f"({', '.join(f'{len(names)} {reason}' for reason, names in reasons.items())})"
            for kind, reasons in self._left_out.items()
            if reasons
        ]
        if marked:
            print_status(f"captioner: {str(self.source)!r}: left out {' and '.join(marked)}, as the file marks them")

    def _add(self, kind: Kind, reason: str, name: str, error: CaptionerError) -> None:
        if self.most == 0:
            raise error
        self._found[kind].setdefault(reason, []).append(name)
        self._first.setdefault(kind, error)

    def _count(self, kind: Kind) -> int:
        return sum(map(len, self._found[kind].values()))

    def _reasons(self, kind: Kind) -> str:
        """Reasons, the most frequent first, with how many and which; names as Python writes them, safe to print."""
        parts = []
        for reason, names in sorted(self._found[kind].items(), key=lambda item: -len(item[1])):
            more = ", …" if len(names) > _NAMED else ""
            parts.append(f"{len(names)} {reason}: {', '.join(map(repr, names[:_NAMED]))}{more}")
        return "; ".join(parts)
