"""Vectors of rare words, from texts whose structure is known."""

from __future__ import annotations

import random

import torch
from rare_words import cooccurrence_vectors, predict

ANIMALS, TOOLS, REST = range(4, 8), range(8, 12), range(12, 20)


def test_words_of_a_kind_have_like_vectors() -> None:
    chance = random.Random(1)
    texts = []
    for _ in range(2000):
        kind, company = chance.choice([(ANIMALS, REST[:4]), (TOOLS, REST[4:])])
        texts.append([chance.choice(company), chance.choice(kind), chance.choice(company)])
    vectors = cooccurrence_vectors(texts, 20)
    torch.testing.assert_close(vectors[4:].norm(dim=1), torch.ones(16))
    likeness = vectors @ vectors.T
    assert likeness[4:8, 4:8].min() > likeness[4:8, 8:12].max()


def test_a_linear_map_is_found_from_the_taught_rows_alone() -> None:
    torch.manual_seed(1)
    vectors, weight = torch.randn(200, 6), torch.randn(6, 3)
    known = vectors @ weight + 0.5
    taught = torch.arange(200) < 150
    known[~taught] = 99.0
    found, expected = predict(vectors, known, taught)[150:], vectors[150:] @ weight + 0.5
    torch.testing.assert_close(found, expected, atol=0.15, rtol=0.05)
