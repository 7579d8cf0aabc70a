"""Reward penalties for hallucinated objects, repetition, and wrong articles ("a orange").

CIDEr-D alone rewards phrases that are frequent in references even if they are wrong for an image.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from captioner.data.records import Record
from captioner.metrics.cider import CiderReward
from captioner.metrics.grounding import categories_in
from captioner.text.articles import wrong_articles
from captioner.text.vocabulary import END, split_words

_SURE = 0.3
"""Minimum probability of a detector's tag."""

_MAY_REPEAT = frozenset(
    ["a", "an", "the", "of", "in", "on", "at", "with", "and", "to", "by", "is", "are", "its", "his", "her", "their"]
)


class PenalizedReward:
    """CIDEr-D minus penalties.

    Args:
        cider: The CIDEr-D reward.
        records: The images, in the reward's order.
        words: The vocabulary's words, by id.
        hallucination: Penalty for each COCO category that a caption names but neither references nor tags do.
        repetition: Penalty for each repeated word or pair of words, and for each wrong article.
    """

    def __init__(
        self,
        cider: CiderReward,
        records: Sequence[Record],
        words: Sequence[str],
        hallucination: float,
        repetition: float,
    ) -> None:
        self.cider = cider
        self.words = words
        self.hallucination = hallucination
        self.repetition = repetition
        self._present = [_things(record) for record in records]

    def __call__(self, image: int, captions: Sequence[Sequence[int]]) -> list[float]:
        """Compute the rewards of an image's captions.

        Args:
            image: Its index among the records.
            captions: Token ids of each caption.
        """
        texts = [[self.words[id_] for id_ in ids if id_ != END] for ids in captions]
        rewards = self.cider(image, captions)
        return [
            reward
            - self.hallucination * len(categories_in(text) - self._present[image])
            - self.repetition * (_repeats(text) + wrong_articles(text))
            for reward, text in zip(rewards, texts, strict=True)
        ]


def _things(record: Record) -> frozenset[str]:
    tagged = {tag for tag, probability in record.tags if probability >= _SURE}
    return frozenset(tagged.union(*(categories_in(split_words(caption)) for caption in record.captions)))


def _repeats(words: Sequence[str]) -> int:
    """Count repeated words and pairs of words."""
    content = Counter(word for word in words if word not in _MAY_REPEAT)
    pairs = Counter(itertools.pairwise(words))
    return sum(count - 1 for counts in (content, pairs) for count in counts.values())
