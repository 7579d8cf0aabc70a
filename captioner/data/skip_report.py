"""Report of skipped images and captions, and the limit on their share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from captioner.errors import CaptionerError
from captioner.utils.console import print_status

Kind: TypeAlias = Literal["images", "captions"]

USUAL_SHARE = 0.01
"""Default share of unusable images or captions; more indicates a mistake."""

MALFORMED = "of a wrong form"

_NAMED = 3
"""Names listed for each reason."""


class Skipped:
    """The unusable images and captions of a file, by reason.

    Args:
        source: The caption file.
        most: Share of its images, and of its captions, that may be skipped, in [0, 1]. With 0, the first error is
            raised.

    Raises:
        CaptionerError: The share is out of range.
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
        """Number of skipped images."""
        return self._count("images")

    @property
    def captions(self) -> int:
        """Number of skipped captions, without those of skipped images."""
        return self._count("captions")

    def image(self, reason: str, name: str, error: CaptionerError) -> None:
        """Skip an image.

        Args:
            reason: The reason, as it follows a count: "3 missing".
            name: The image, or its position in the file.
            error: The error, with its cure.

        Raises:
            CaptionerError: ``error``, if nothing may be skipped.
        """
        self._add("images", reason, name, error)

    def caption(self, reason: str, name: str, error: CaptionerError) -> None:
        """Skip a caption; as `image`."""
        self._add("captions", reason, name, error)

    def leave_out(self, kind: Kind, reason: str, name: int | str) -> None:
        """Record an entry that the file itself flags as unusable, which is no error.

        Args:
            kind: Whether it is an image or a caption.
            reason: The flag, as it follows a count: "3 rejected".
            name: The image.
        """
        self._left_out[kind].setdefault(reason, []).append(name)

    def left_out(self, kind: Kind) -> list[int | str]:
        """Names of the flagged entries."""
        return [name for names in self._left_out[kind].values() for name in names]

    def refuse_too_many(self, images: int, captions: int) -> None:
        """Check the share of skipped entries.

        Args:
            images: Number of used images.
            captions: Number of used captions.

        Raises:
            CaptionerError: The share is exceeded.
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
        """Report on standard error what was skipped, if anything."""
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
        """The reasons with counts and names, the most frequent first; names are escaped."""
        parts = []
        for reason, names in sorted(self._found[kind].items(), key=lambda item: -len(item[1])):
            more = ", …" if len(names) > _NAMED else ""
            parts.append(f"{len(names)} {reason}: {', '.join(map(repr, names[:_NAMED]))}{more}")
        return "; ".join(parts)
