"""Constraints on the next token: forbidden, required and repeated words."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captioner.decoding.options import DecodingOptions, only_ids
from captioner.decoding.rules import TokenRules
from captioner.text.vocabulary import END, NEVER_WRITTEN, PAD

IMPOSSIBLE = -math.inf


class Constraints:
    """Sets the log-probability of every token that may not come next to -inf.

    Args:
        options: The constraints.
        device: Device of the hypotheses.
        rules: Rules by whole words, for tokens that are parts of them.

    Attributes:
        required: Ids of the words that must appear and that the prompt lacks, shape (required words,).
    """

    def __init__(self, options: DecodingOptions, device: torch.device, rules: TokenRules | None = None) -> None:
        self.options = options
        self.rules = rules
        required = [word for word in only_ids(options.required_words) if word not in options.prompt_ids]
        self.never = torch.tensor([*NEVER_WRITTEN, *only_ids(options.forbidden_words)], device=device)
        self.required = torch.tensor(required, dtype=torch.long, device=device)
        self.bad_endings = torch.tensor(only_ids(options.bad_endings), dtype=torch.long, device=device)
        self._may_end = ~torch.isin(self.required, self.bad_endings)

    def apply(self, log_probabilities: Tensor, tokens: Tensor) -> None:
        """Apply the constraints in place.

        Args:
            log_probabilities: Of the next token, shape (images, width, vocabulary).
            tokens: The tokens so far, shape (images, width, steps).
        """
        log_probabilities[:, :, self.never] = IMPOSSIBLE
        if self.rules is not None:
            out = torch.from_numpy(self.rules.ruled_out(tokens.cpu().numpy()))
            log_probabilities.masked_fill_(out.to(log_probabilities.device), IMPOSSIBLE)
        if tokens.shape[2] < self.options.min_words:
            log_probabilities[:, :, END] = IMPOSSIBLE
        if self.options.no_repeat_ngram:
            self._block_repetition(log_probabilities, tokens)
        if len(self.bad_endings):
            self._block_bad_endings(log_probabilities, tokens)
        if len(self.required):
            self._leave_room(log_probabilities, tokens)

    def missing(self, tokens: Tensor) -> Tensor:
        """Mask of the required words that are still missing, shape (images, width, required words)."""
        return ~(tokens.unsqueeze(3) == self.required).any(2)

    def _block_repetition(self, log_probabilities: Tensor, tokens: Tensor) -> None:
        size = self.options.no_repeat_ngram
        log_probabilities.scatter_(2, tokens[:, :, -1:], IMPOSSIBLE)  # no word twice in a row
        if tokens.shape[2] < size:
            return
        runs = tokens.unfold(2, size, 1)  # (images, width, runs, size)
        prefix = tokens[:, :, tokens.shape[2] - size + 1 :].unsqueeze(2)  # (images, width, 1, size - 1)
        repeated = torch.where((runs[..., :-1] == prefix).all(3), runs[..., -1], PAD)  # PAD is ruled out anyway
        log_probabilities.scatter_(2, repeated, IMPOSSIBLE)

    def _block_bad_endings(self, log_probabilities: Tensor, tokens: Tensor) -> None:
        if tokens.shape[2]:
            ends_badly = torch.isin(tokens[:, :, -1], self.bad_endings)
            log_probabilities[:, :, END].masked_fill_(ends_badly, IMPOSSIBLE)
        if tokens.shape[2] == self.options.max_words - 1:
            log_probabilities[:, :, self.bad_endings] = IMPOSSIBLE

    def _leave_room(self, log_probabilities: Tensor, tokens: Tensor) -> None:
        """Rule out END, and tokens that leave too little room, while required words are missing."""
        room = self.options.max_words - tokens.shape[2] - 1
        missing = self.missing(tokens)
        log_probabilities[:, :, END].masked_fill_(missing.any(2), IMPOSSIBLE)
        count, good = missing.sum(2), (missing & self._may_end).sum(2)
        allowed = log_probabilities[:, :, self.required]
        log_probabilities.masked_fill_((_words_needed(count, good) > room).unsqueeze(2), IMPOSSIBLE)
        after = _words_needed(count.unsqueeze(2) - 1, good.unsqueeze(2) - self._may_end.long())
        allowed.masked_fill_(after > room, IMPOSSIBLE)
        log_probabilities[:, :, self.required] = torch.where(missing, allowed, log_probabilities[:, :, self.required])


def _words_needed(count: Tensor, good: Tensor) -> Tensor:
    """Number of words that must still come: the missing ones, and one more if none of them may end the caption."""
    return count + ((count > 0) & (good == 0))
