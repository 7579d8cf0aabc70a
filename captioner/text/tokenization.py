"""What scores count: tokenizers of captions and references, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from captioner.errors import CaptionerError

TokenizerName = Literal["ptb", "13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none"]
TOKENIZERS: tuple[TokenizerName, ...] = get_args(TokenizerName)

_AT_SPACES = ("ptb", "13a", "intl", "none")
"""Tokenizers to which text without spaces is a single token."""


@dataclass(frozen=True)
class Tokenization:
    """How scores split captions into tokens.

    Attributes:
        tokenizer: ``ptb`` is the official tokenizer of the COCO scores, for English: lower case, no punctuation. The
            others are sacreBLEU's (Post, 2018), which keep both: ``13a`` and ``intl`` for languages with spaces between
            words, ``zh``, ``ja-mecab`` and ``ko-mecab`` for Chinese, Japanese and Korean, ``char`` for any language;
            ``none`` splits at spaces alone.
        lowercase: Whether capitals count as small letters; with ``ptb`` they always do.

    Raises:
        CaptionerError: There is no such tokenizer, or a package that it needs is missing.
    """

    tokenizer: TokenizerName = "ptb"
    lowercase: bool = False

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS:
            raise CaptionerError(f"there is no tokenizer {self.tokenizer!r}; choose from {', '.join(TOKENIZERS)}")
        if self.tokenizer not in ("ptb", "none"):
            _sacrebleu_tokenizer(self.tokenizer)

    def __call__(self, captions: Sequence[str]) -> list[list[str]]:
        """Split the captions of a corpus into tokens; as for `tokenize`, ``ptb`` may look at the next caption."""
        if self.tokenizer == "ptb":
            from captioner.text.tokenizer import tokenize  # its patterns take a while

            return tokenize(captions)
        split = str.rstrip if self.tokenizer == "none" else _sacrebleu_tokenizer(self.tokenizer)
        return [split((text.lower() if self.lowercase else text).rstrip()).split() for text in captions]

    @property
    def is_official(self) -> bool:
        """Whether it is the tokenizer of the official scores, which is for English."""
        return self.tokenizer == "ptb"

    @property
    def needs_spaces(self) -> bool:
        """Whether a caption without spaces between words is a single token."""
        return self.tokenizer in _AT_SPACES

    def signature(self) -> dict[str, str]:
        """Case, punctuation and tokenizer, with the library that has it, in sacreBLEU's terms."""
        if self.is_official:
            return {"case": "lc", "punct": "no", "tok": self.tokenizer}
        counted = {"case": "lc" if self.lowercase else "mixed", "punct": "yes", "tok": self.tokenizer}
        if self.tokenizer == "none":
            return counted
        import sacrebleu

        return counted | {"sacrebleu": sacrebleu.__version__}


def _sacrebleu_tokenizer(name: str) -> Callable[[str], str]:
    try:
        from sacrebleu.metrics.bleu import BLEU

        tokenizer: Callable[[str], str] = BLEU(tokenize=name).tokenizer
        tokenizer("")  # some load their dictionary now
    except ImportError as error:
        raise CaptionerError(f"tokenizer {name!r} needs sacrebleu; run pip install 'captioner[languages]'") from error
    except RuntimeError as error:
        extra = name.partition("-")[0]
        raise CaptionerError(f"tokenizer {name!r} needs a dictionary; run pip install 'sacrebleu[{extra}]'") from error
    return tokenizer
