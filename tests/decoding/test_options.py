"""Options that make no sense are refused in one line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam_size": 0}, "beam size is 0; it must be at least 1"),
        ({"beam_size": 2.5}, "beam size is 2.5; it must be a whole number"),
        ({"beam_size": "5"}, "beam size is '5'; it must be a whole number"),
        ({"length_penalty": "a"}, "length penalty is 'a'; it must be a number"),
        ({"max_words": 0}, "max words is 0; it must be at least 1"),
        ({"beam_size": 2, "num_captions": 3}, "3 captions cannot come from a beam of 2; widen the beam"),
        ({"length_penalty": -1.0}, "length penalty is -1.0; it must be a number of at least 0 and at most 10"),
        ({"length_penalty": math.nan}, "length penalty is nan; it must be a number of at least 0 and at most 10"),
        ({"length_normalization": "sum"}, "length normalization is 'sum'; it must be average or gnmt"),
        ({"min_words": 21}, "min words is 21, more than max words (20); lower it"),
        ({"no_repeat_ngram": -1}, "no repeat ngram is -1; it must be at least 0"),
        ({"forbidden_words": "man"}, "forbidden words is the text 'man'; give a list of words"),
        ({"forbidden_words": None}, "forbidden words is None; give a list of words"),
        ({"required_words": [4.5]}, "required words has 4.5, which is neither a word nor an id; drop it"),
        ({"required_words": [2]}, "required words has the id 2, which stands for no word; drop it"),
        (
            {"required_words": ["dog"], "forbidden_words": ["cat", "dog"]},
            "word 'dog' is both required and forbidden; drop one of the two",
        ),
        (
            {"required_words": [4, 5], "max_words": 1},
            "2 required words need captions of 2 words, but max words is 1; raise it",
        ),
        (
            {"required_words": [4], "bad_endings": [4], "max_words": 1},
            "1 required words need captions of 2 words, but max words is 1; raise it",
        ),
        ({"prompt": 4}, "prompt is 4; give a list of words"),
        ({"prompt": [2]}, "prompt has the id 2, which stands for no word; drop it"),
        ({"prompt": [4, 4, 5], "max_words": 3}, "the prompt has 3 words and max words is 3; raise it"),
        (
            {"prompt": [4, 5], "required_words": [5, 6, 7], "max_words": 3},
            "3 required words need captions of 4 words, but max words is 3; raise it",
        ),
        ({"sample": True, "required_words": [4]}, "required words need beam search; drop them, or do not sample"),
        ({"sample": True, "diverse_groups": 5}, "diverse groups need beam search; drop them, or do not sample"),
        ({"sample": True, "beam_size": 9}, "beam size is 9, but sampling keeps no beam; drop one of the two"),
        ({"temperature": 0.5}, "temperature is 0.5, which only sampling uses; set sample"),
        ({"seed": 1}, "seed is 1, which only sampling uses; set sample"),
        ({"sample": True, "temperature": 0}, "temperature is 0; it must be a number of at least 0.000001"),
        ({"sample": True, "temperature": 1e-40}, "temperature is 1e-40; it must be a number of at least 0.000001"),
        ({"length_penalty": 100}, "length penalty is 100; it must be a number of at least 0 and at most 10"),
        ({"sample": True, "top_p": 1.5}, "top p is 1.5; it must be greater than 0 and at most 1"),
        ({"sample": True, "seed": -1}, "seed is -1; it must be at least 0"),
        ({"sample": True, "seed": 2**63}, "seed is 9223372036854775808; it must be less than 2^63"),
        (
            {"diverse_groups": 2},
            "a beam of 5 cannot be divided into 2 diverse groups; make it a multiple of them",
        ),
        (
            {"diverse_groups": 5, "required_words": [4]},
            "required words and diverse groups cannot be combined; drop one of the two",
        ),
        ({"diversity_penalty": 2.0}, "diversity penalty is 2.0, but there is one group; set diverse groups"),
    ],
)
def test_senseless_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptionerError) as caught:
        DecodingOptions(**values)
    assert str(caught.value) == message


def test_lists_of_words_become_tuples_of_each_word_once() -> None:
    assert DecodingOptions(required_words=["dog", "cat", "dog"]).required_words == ("dog", "cat")  # type: ignore[arg-type]
