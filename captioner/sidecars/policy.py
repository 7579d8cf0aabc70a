"""Which text is written where: a person's words stay, captions of ours may be replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["keep", "overwrite", "append", "prepend"]
"""What becomes of a person's words: they stay alone, go, or stand before or after the caption."""

_ENDS = tuple(".!?,;:")


@dataclass(frozen=True)
class Captioned:
    """A caption as it is written: its text and how sure of it the model is.

    Attributes:
        text: The caption.
        log_probability: Natural logarithm of its probability.
        confidence: In [0, 1]; None for a model that tells none.
    """

    text: str
    log_probability: float
    confidence: float | None = None


@dataclass(frozen=True)
class Slot:
    """A place for one caption, and what it holds.

    Attributes:
        text: The text there; None where there is none.
        ours: Whether this program wrote it and nobody changed it since.
        before: What stood there before, where it is ours.
        words: A person's words that the place holds or, where the text is ours, that it was written over or joined to.
    """

    text: str | None = None
    ours: bool = False
    before: str | None = None
    words: str = ""

    @classmethod
    def of(cls, text: str | None, written: str | None, before: str | None, elsewhere: str = "") -> Slot:
        """Compare what is there with what was written.

        Args:
            text: What is there.
            written: What this program wrote, if it did.
            before: What stood there when it did.
            elsewhere: A person's words for the same thing in another place, such as the picture's EXIF.
        """
        if written is not None and text == written:
            return cls(text, True, before, (before or "").strip() or elsewhere)
        return cls(text, words=(text or "").strip() or elsewhere)


@dataclass(frozen=True)
class Decision:
    """What happens to a slot.

    Attributes:
        action: ``write``, ``replace`` (ours), ``overwrite``, ``append``, ``prepend``; or, with nothing to do, ``keep``
            (a person's words), ``same`` (ours, as it would be written) and ``unsure`` (too little confidence).
        text: What the slot is to hold; None where nothing is to be done.
    """

    action: str
    text: str | None = None


@dataclass(frozen=True)
class Policy:
    """How captions are worded and what they may replace.

    Attributes:
        mode: What becomes of a person's words.
        prefix: Put before each caption.
        suffix: Put after each caption.
        min_confidence: Captions below are not written; those without a confidence are.
    """

    mode: Mode = "keep"
    prefix: str = ""
    suffix: str = ""
    min_confidence: float = 0.0

    def wants(self, slot: Slot) -> bool:
        """Whether a caption is needed to decide what happens to a slot."""
        return slot.ours or self.mode != "keep" or not slot.words

    def decide(self, slot: Slot, caption: Captioned) -> Decision:
        """Decides what a slot is to hold."""
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
        """The mode; for a caption of ours beside a person's words, by default that in which it was written."""
        if self.mode != "keep" or not slot.ours or not slot.words:
            return self.mode
        text = slot.text or ""
        return "append" if text.startswith(slot.words) else "prepend" if text.endswith(slot.words) else "overwrite"


def _join(words: str, caption: str, mode: Mode) -> str:
    if not words or mode == "overwrite":
        return caption
    first, second = (words, caption) if mode == "append" else (caption, words)
    return f"{first} {second}" if first.endswith(_ENDS) else f"{first}, {second}"
