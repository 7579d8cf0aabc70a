"""Words that may not come next; as `captioner.decoding.constraints`, on numpy's arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.decoding.options import DecodingOptions, Word
from captioner.decoding.rules import TokenRules
from captioner.text.vocabulary import END, NEVER_WRITTEN


class Constraints:
    """Gives every word that may not come next the log-probability -inf; the others keep theirs.

    Args:
        options: What is ruled out; its words are ids.
        rules: Rules by whole words, for tokens that are parts of them.

    Attributes:
        required: Ids of the words that must appear and that the prompt lacks, shape (required words,).
    """

    def __init__(self, options: DecodingOptions, rules: TokenRules | None = None) -> None:
        self.options = options
        self.rules = rules
        self.required = _ids([word for word in options.required_words if word not in options.prompt_ids])
        self._never = np.concatenate([_ids(NEVER_WRITTEN), _ids(options.forbidden_words)])
        self._bad_endings = _ids(options.bad_endings)
        self._may_end = ~np.isin(self.required, self._bad_endings)

    def apply(self, log_probabilities: np.ndarray, words: np.ndarray) -> None:
        """Rules words out, in place.

        Args:
            log_probabilities: Of the next word, shape (images, width, vocabulary).
            words: The words so far, shape (images, width, words).
        """
        log_probabilities[:, :, self._never] = -np.inf
        if self.rules is not None:
            log_probabilities[self.rules.ruled_out(words)] = -np.inf
        if words.shape[2] < self.options.min_words:
            log_probabilities[:, :, END] = -np.inf
        if self.options.no_repeat_ngram and words.shape[2]:
            self._block_repetition(log_probabilities, words)
        if len(self._bad_endings):
            self._block_bad_endings(log_probabilities, words)
        if len(self.required):
            self._leave_room(log_probabilities, words)

    def missing(self, words: np.ndarray) -> np.ndarray:
        """Which required words are still to come, shape (images, width, required words)."""
        written: np.ndarray = (words[..., None] == self.required).any(2)
        return ~written

    def _block_repetition(self, log_probabilities: np.ndarray, words: np.ndarray) -> None:
        size = self.options.no_repeat_ngram
        np.put_along_axis(log_probabilities, words[:, :, -1:], -np.inf, axis=2)  # no word twice in a row
        if words.shape[2] < size:
            return
        runs = np.lib.stride_tricks.sliding_window_view(words, size, axis=2)  # (images, width, runs, size)
        begun = words[:, :, None, words.shape[2] - size + 1 :]
        images, hypotheses, places = np.nonzero((runs[..., :-1] == begun).all(3))
        log_probabilities[images, hypotheses, runs[images, hypotheses, places, -1]] = -np.inf

    def _block_bad_endings(self, log_probabilities: np.ndarray, words: np.ndarray) -> None:
        if words.shape[2]:
            log_probabilities[np.isin(words[:, :, -1], self._bad_endings), END] = -np.inf
        if words.shape[2] == self.options.max_words - 1:
            log_probabilities[:, :, self._bad_endings] = -np.inf

    def _leave_room(self, log_probabilities: np.ndarray, words: np.ndarray) -> None:
        """Rules out END, and words after which too few could follow, while required words are missing."""
        room = self.options.max_words - words.shape[2] - 1
        missing = self.missing(words)
        log_probabilities[missing.any(2), END] = -np.inf
        count, good = missing.sum(2), (missing & self._may_end).sum(2)
        allowed = log_probabilities[:, :, self.required]
        log_probabilities[_words_needed(count, good) > room] = -np.inf
        after = _words_needed(count[..., None] - 1, good[..., None] - self._may_end.astype(int))
        allowed[after > room] = -np.inf
        log_probabilities[:, :, self.required] = np.where(missing, allowed, log_probabilities[:, :, self.required])


def _words_needed(count: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Words that must still come: those missing, and one more if none of those may end the caption."""
    needed: np.ndarray = count + ((count > 0) & (good == 0))
    return needed


def _ids(words: Sequence[Word]) -> np.ndarray:
    return np.array([int(word) for word in words], np.int64)
