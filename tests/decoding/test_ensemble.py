"""Several decoders that write together, and the scoring of given captions."""

from __future__ import annotations

import pytest
import torch
from table_decoder import TableDecoder, all_sentences, grid_of, real_decoder, score, spoken, unconstrained

from captioner.decoding import decode, score_captions
from captioner.text.vocabulary import END, START


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_of_an_ensemble_equals_brute_force_over_mean_scores(seed: int) -> None:
    members = [TableDecoder(10 * seed + n, images=2) for n in range(3)]
    options = unconstrained(beam_size=130, num_captions=5, max_words=4)
    for image, hypotheses in enumerate(decode(members, [grid_of(2)] * 3, options)):
        scored = [
            (s, [sum(each) / 3 for each in zip(*(score(m, image, s) for m in members), strict=True)])
            for s in all_sentences(4)
        ]
        scored.sort(key=lambda pair: -sum(pair[1]) / len(pair[0]) ** options.length_penalty)
        assert [spoken(h) for h in hypotheses] == [s for s, _ in scored[:5]]
        for hypothesis, (_, expected) in zip(hypotheses, scored, strict=False):
            assert hypothesis.log_probabilities == pytest.approx(expected, abs=1e-5)


def test_a_model_in_chorus_with_itself_is_itself() -> None:
    decoder, options = TableDecoder(4, images=3), unconstrained(3, 3, 6)
    alone = decode(decoder, grid_of(3), options)
    chorus = decode([decoder, decoder], [grid_of(3)] * 2, options)
    for one, two in zip(alone, chorus, strict=True):
        assert [h.words for h in one] == [h.words for h in two]
        for left, right in zip(one, two, strict=True):
            assert left.log_probabilities == right.log_probabilities
            assert left.attention is not None
            assert right.attention is not None
            torch.testing.assert_close(left.attention, right.attention)


def test_members_may_look_at_other_grids() -> None:
    decoders = [real_decoder(1, 10), real_decoder(2, 6)]
    grids = [torch.randn(4, 9, 10), torch.randn(4, 4, 6)]
    together = decode(decoders, grids, unconstrained(3, 2, 8))
    for image in range(4):
        [alone] = decode(decoders, [grid[image : image + 1] for grid in grids], unconstrained(3, 2, 8))
        assert [h.words for h in alone] == [h.words for h in together[image]]
        assert alone[0].attention is None


def test_a_given_caption_scores_what_it_scored_when_it_was_written() -> None:
    decoder, grid = real_decoder(3, 10), torch.randn(2, 9, 10)
    for image, hypotheses in enumerate(decode(decoder, grid, unconstrained(4, 4, 6))):
        longest = max(len(spoken(h)) for h in hypotheses)
        captions = torch.zeros(1, len(hypotheses), longest + 1, dtype=torch.long)
        for row, hypothesis in enumerate(hypotheses):
            captions[0, row, : len(spoken(hypothesis)) + 1] = torch.tensor([START, *spoken(hypothesis)])
        [read] = score_captions(decoder, grid[image : image + 1], captions)
        for left, right in zip(hypotheses, read, strict=True):
            assert right.words == left.words
            assert right.log_probabilities == pytest.approx(left.log_probabilities, abs=1e-5)
            assert left.attention is not None
            assert right.attention is not None
            torch.testing.assert_close(right.attention, left.attention)


def test_every_sentence_scores_what_its_words_score_one_by_one() -> None:
    decoder = TableDecoder(6, images=1)
    sentences = all_sentences(3)
    captions = torch.zeros(1, len(sentences), 4, dtype=torch.long)
    for row, sentence in enumerate(sentences):
        captions[0, row, : len(sentence) + 1] = torch.tensor([START, *sentence])
    [read] = score_captions(decoder, grid_of(1), captions)
    for hypothesis, sentence in zip(read, sentences, strict=True):
        assert hypothesis.words == [word for word in sentence if word != END]
        assert hypothesis.log_probabilities == pytest.approx(score(decoder, 0, sentence), abs=1e-5)
