"""Policy of writing: human text is kept, generated captions may be replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["keep", "overwrite", "append", "prepend"]
"""Treatment of human text: kept alone, replaced, or put before or after the caption."""

_ENDS = tuple(".!?,;:")


@dataclass(frozen=True)
class Captioned:
    """A caption to write, with its scores.

    Attributes:
        text: The caption.
        log_probability: Natural logarithm of its probability.
        confidence: Confidence in [0, 1]; None for an uncalibrated model.
    """

    text: str
    log_probability: float
    confidence: float | None = None


@dataclass(frozen=True)
class Slot:
    """A slot for one caption, and its content.

    Attributes:
        text: The current text; None if there is none.
        ours: Whether it was written by this program and is unchanged.
        before: The text before that, if it is ours.
        words: The human text in the slot, or that our text replaced or was joined to.
    """

    text: str | None = None
    ours: bool = False
    before: str | None = None
    words: str = ""

    @classmethod
    def of(cls, text: str | None, written: str | None, before: str | None, elsewhere: str = "") -> Slot:
        """Compare the current text with what was written.

        Args:
            text: The current text.
            written: The text written by this program, if any.
            before: The text before that.
            elsewhere: Human text for the same image elsewhere, such as in its EXIF.
        """
        if written is not None and text == written:
            return cls(text, True, before, (before or "").strip() or elsewhere)
        return cls(text, words=(text or "").strip() or elsewhere)


@dataclass(frozen=True)
class Decision:
    """The decision about a slot.

    Attributes:
        action: ``write``, ``replace`` (ours), ``overwrite``, ``append``, ``prepend``; or, without writing, ``keep``
            (human text), ``same`` (ours, unchanged) and ``unsure`` (low confidence).
        text: The new text; None for no change.
    """

    action: str
    text: str | None = None


@dataclass(frozen=True)
class Policy:
    """Wording of captions, and rules for replacing texts.

    Attributes:
        mode: Treatment of human text.
        prefix: Prefix of each caption.
        suffix: Suffix of each caption.
        min_confidence: Captions with lower confidence are not written.
    """

    mode: Mode = "keep"
    prefix: str = ""
    suffix: str = ""
    min_confidence: float = 0.0

    def wants(self, slot: Slot) -> bool:
        """Whether the decision about a slot needs a caption."""
        return slot.ours or self.mode != "keep" or not slot.words

    def decide(self, slot: Slot, caption: Captioned) -> Decision:
        """Decide about a slot."""
        if not self.wants(slot):
            return Decision("keep")
        if caption.confidence is not None and caption.confidence < self.min_confidence:
            return Decision("unsure")
        mode = self._mode_of(slot)
        text = _join(slot.words, self._worded(caption.text), mode)
        if slot.ours:
            return Decision("same") if text == slot.text else Decision("replace", text)
        return Decision(mode if slot.words else "write", text)

    def _worded(self, caption: str) -> str:
        prefix, suffix = (" ".join(part.split()) for part in (self.prefix, self.suffix))
        space = "" if not suffix or suffix.startswith(_ENDS) else " "
        return f"{prefix} {caption}{space}{suffix}".strip()

    def _mode_of(self, slot: Slot) -> Mode:
        """The mode; by default, that in which an existing caption was combined with human text."""
        if self.mode != "keep" or not slot.ours or not slot.words:
            return self.mode
        text = slot.text or ""
        return "append" if text.startswith(slot.words) else "prepend" if text.endswith(slot.words) else "overwrite"


def _join(words: str, caption: str, mode: Mode) -> str:
    if not words or mode == "overwrite":
        return caption
    first, second = (words, caption) if mode == "append" else (caption, words)
    return f"{first} {second}" if first.endswith(_ENDS) else f"{first}, {second}"
