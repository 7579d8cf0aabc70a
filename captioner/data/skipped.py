"""What of a data set is passed over: counted, named, and too much of it refused."""

from __future__ import annotations

import sys
from pathlib import Path

from captioner.errors import CaptionerError

USUAL_SHARE = 0.01
"""Of a data set's images, and of its captions, that may be unusable: more is no dirt but a mistake."""

MALFORMED = "of a wrong form"

_NAMED = 3
"""Names that stand beside each reason."""


class Skipped:
    """The images and captions of one file that cannot be used, by reason.

    Args:
        source: The caption file.
        most: Share of its images, and of its captions, that may be passed over, in [0, 1]. With 0 none may, and the
            first raises what is wrong with it.

    Raises:
        CaptionerError: The share is none.
    """

    def __init__(self, source: Path, most: float = 0.0) -> None:
        if not 0 <= most <= 1:
            raise CaptionerError(f"the share that may be skipped is {most}; it must be at least 0 and at most 1")
        self.source = source
        self.most = most
        self._images: dict[str, list[str]] = {}
        self._captions: dict[str, list[str]] = {}
        self._first: CaptionerError | None = None

    @property
    def images(self) -> int:
        """How many images are passed over."""
        return sum(map(len, self._images.values()))

    @property
    def captions(self) -> int:
        """How many captions of images that are used, or of no image, are passed over."""
        return sum(map(len, self._captions.values()))

    def image(self, reason: str, name: str, error: CaptionerError) -> None:
        """Passes over an image.

        Args:
            reason: What many images have in common, as it stands after their number: "3 missing".
            name: The image, or its place in the file.
            error: What is wrong with it, with the cure.

        Raises:
            CaptionerError: ``error``, where nothing may be passed over.
        """
        self._add(self._images, reason, name, error)

    def caption(self, reason: str, name: str, error: CaptionerError) -> None:
        """Passes over a caption; as `image`."""
        self._add(self._captions, reason, name, error)

    def refuse_too_many(self, images: int, captions: int) -> None:
        """Holds what is passed over against what is left.

        Args:
            images: Images that are used.
            captions: Captions that are used.

        Raises:
            CaptionerError: More than the share is passed over.
        """
        for kind, found, used in (("images", self._images, images), ("captions", self._captions, captions)):
            count = sum(map(len, found.values()))
            if count > self.most * (count + used):
                raise CaptionerError(
                    f"{count} of {count + used} {kind} of {self.source} cannot be used ({_told(found)}), more than the "
                    f"share of {self.most} that may be skipped (training: data.max_skipped, evaluate: --max-skipped); "
                    f"mend the data or raise the share. The first: {self._first}"
                )

    def tell(self) -> None:
        """Says on standard error what is passed over, if anything is."""
        told = [
            f"{count} {kind} ({_told(found)})"
            for kind, found, count in (
                ("images", self._images, self.images),
                ("captions", self._captions, self.captions),
            )
            if found
        ]
        if told:
            print(f"captioner: {str(self.source)!r}: skipped {' and '.join(told)}", file=sys.stderr)

    def _add(self, found: dict[str, list[str]], reason: str, name: str, error: CaptionerError) -> None:
        if self.most == 0:
            raise error
        found.setdefault(reason, []).append(name)
        self._first = self._first or error


def _told(found: dict[str, list[str]]) -> str:
    """Reasons, the most frequent first, each with how many and which; names as Python writes texts, safe to print."""
    parts = []
    for reason, names in sorted(found.items(), key=lambda item: -len(item[1])):
        more = ", …" if len(names) > _NAMED else ""
        parts.append(f"{len(names)} {reason}: {', '.join(map(repr, names[:_NAMED]))}{more}")
    return "; ".join(parts)
