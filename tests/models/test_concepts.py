"""Concepts against their equations, a word at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from captioner.decoding import DecodingOptions, decode
from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.decoder.concepts import CANDIDATES, Concepts
from captioner.text.vocabulary import START

WORDS, CHANNELS = 23, 7
IDS = [0, 9, 4, 12, 20, 7]
CLASS_WORDS = [1, 1, 0, 5]


def make(concepts: str = "copy", classes: int = len(CLASS_WORDS), words: int = len(IDS)) -> Decoder:
    torch.manual_seed(3)
    config = DecoderConfig(
        embedding_size=6,
        hidden_size=5,
        attention_size=4,
        dropout=0.0,
        concepts=concepts,  # type: ignore[arg-type]
        concept_size=3,
        concept_words=words,
        concept_classes=classes,
    )
    decoder = Decoder(config, CHANNELS, WORDS).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    own(decoder).word_ids.copy_(torch.tensor((IDS * 5)[:words]))
    own(decoder).class_words.copy_(torch.tensor(CLASS_WORDS[:classes]))
    return decoder


def own(decoder: Decoder) -> Concepts:
    assert decoder.concepts is not None
    return decoder.concepts


def grids(images: int = 3) -> Tensor:
    torch.manual_seed(5)
    return torch.randn(images, 4, CHANNELS, dtype=torch.double)


def test_a_concept_is_present_if_either_classifier_is_right() -> None:
    concepts, grid = own(make()), grids()
    found = concepts.probabilities(grid)
    assert concepts.classes is not None
    for image, expected in zip(grid, found, strict=True):
        mean = image.mean(0)
        classes = (concepts.classes.weight @ mean + concepts.classes.bias).exp()
        classes = classes / classes.sum()
        for concept in range(1, len(IDS)):
            word = float((concepts.words.weight[concept] @ mean + concepts.words.bias[concept]).detach().sigmoid())
            named = sum(float(classes[c].detach()) for c, stands_for in enumerate(CLASS_WORDS) if stands_for == concept)
            assert float(expected[concept]) == pytest.approx(1 - (1 - word) * (1 - named))
        assert expected[0] == 0


def test_the_next_word_is_written_or_copied() -> None:
    decoder, grid = make(), grids()
    concepts, state = own(decoder), decoder.start(grids())
    words = torch.full((len(grid),), START)
    core = decoder.core.compute_output(decoder.core.advance(decoder._project(words), state, grid))
    logits = decoder.step(words, state, grid).logits
    assert concepts.gate is not None
    probabilities = concepts.probabilities(grid)
    for image, output in enumerate(core.output):
        present = range(1, len(IDS))
        scores = torch.stack(
            [
                (concepts.query.weight @ output + concepts.query.bias)
                @ (concepts.key.weight @ concepts.vectors[k] + concepts.key.bias)
                / math.sqrt(3)
                + concepts.trust * probabilities[image, k].clamp(1e-4, 1 - 1e-4).logit()
                for k in range(len(IDS))
            ]
        )
        weights = scores.softmax(0)
        mixed = sum(weights[k] * (concepts.value.weight @ concepts.vectors[k]) for k in range(len(IDS)))
        assert isinstance(mixed, Tensor)
        certainty = sum(weights[k] * probabilities[image, k].clamp(1e-4, 1 - 1e-4).logit() for k in range(len(IDS)))
        seen = torch.cat([output, mixed, torch.as_tensor(certainty).reshape(1)])
        gate = torch.sigmoid(concepts.gate.weight[0] @ seen + concepts.gate.bias[0])
        expected = (1 - gate) * decoder._logits(output + mixed).softmax(0)
        expected[0] = expected[0] + gate * weights[0]  # the concept without a word, which is never written
        for k in present:
            expected[IDS[k]] = expected[IDS[k]] + gate * weights[k]
        torch.testing.assert_close(logits[image].exp(), expected)


@pytest.mark.parametrize("concepts", ["attend", "copy"])
def test_all_next_words_together_have_probability_1(concepts: str) -> None:
    decoder, grid = make(concepts), grids()
    step = decoder.step(torch.tensor([1, 5, 9]), decoder.start(grid), grid)
    probabilities = step.logits.exp() if concepts == "copy" else step.logits.softmax(-1)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, dtype=torch.double))


def test_a_word_that_the_vocabulary_never_offers_is_copied() -> None:
    decoder, grid = make(), grids(1)
    concepts = own(decoder)
    with torch.no_grad():
        decoder.output_bias[9] = -1e9
        concepts.words.bias[1] = 50.0  # the picture surely shows it
        assert concepts.gate is not None
        concepts.gate.bias.fill_(50.0)
        concepts.trust.fill_(5.0)
    [[best]] = decode(decoder.float(), grid.float(), DecodingOptions(beam_size=2, max_words=1))
    assert best.words == [9]


def test_captions_teach_the_decoder_and_not_the_classifiers() -> None:
    decoder = make()
    outcome = decoder(grids(2), torch.tensor([[[1, 5, 2]], [[1, 9, 2]]]))
    outcome.logits.sum().backward()
    concepts = own(decoder)
    assert concepts.words.weight.grad is None
    assert concepts.vectors.grad is not None
    assert concepts.vectors.grad.abs().sum() > 0


def test_the_likeliest_are_the_candidates() -> None:
    decoder = make(words=2 * CANDIDATES, classes=0)
    concepts, grid = own(decoder), grids()
    candidates = decoder.start(grid).cache.concepts
    assert candidates is not None
    assert candidates.ids.shape == (3, CANDIDATES)
    probabilities = concepts.probabilities(grid)
    for row, scores in zip(probabilities, candidates.scores, strict=True):
        best = sorted(row.tolist(), reverse=True)[:CANDIDATES]
        torch.testing.assert_close(scores.sigmoid(), torch.tensor(best, dtype=torch.double).clamp(1e-4, 1 - 1e-4))


def test_concepts_without_words_are_refused() -> None:
    with pytest.raises(CaptionerError, match=r"decoder\.concepts copy needs words"):
        Decoder(DecoderConfig(concepts="copy"), CHANNELS, WORDS)
    with pytest.raises(CaptionerError, match=r"decoder\.concept_size is 0"):
        DecoderConfig(concepts="copy", concept_words=3, concept_size=0)
