"""The reward against the corpus score, and the loss against its equation."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import make_captioner

from captioner.decoding import DecodingOptions, decode
from captioner.decoding.ensemble import Ensemble
from captioner.metrics.cider import CiderReward, cider
from captioner.metrics.ngrams import index_corpus
from captioner.models.decoder import Decoder, MemberDecoders
from captioner.text.vocabulary import END, PAD, START, UNKNOWN
from captioner.training.objectives.self_critical import make_reward, self_critical_loss

WORDS = ["a", "the", "dog", "cat", "runs", "sits", "on", "grass", "road", "red"]


def sentence(chance: random.Random) -> list[str]:
    return chance.choices(WORDS, k=chance.choice([0, 1, 3, 8, 9, 10, 12, 30]))


def test_the_reward_is_the_score_within_the_corpus() -> None:
    chance = random.Random(1)
    hypotheses = [sentence(chance) for _ in range(60)]
    references = [[sentence(chance) for _ in range(chance.randint(1, 5))] for _ in range(60)]
    reward = CiderReward(references)
    expected = cider(index_corpus(hypotheses, references))
    for image, (words, value) in enumerate(zip(hypotheses, expected, strict=True)):
        assert reward(image, [words, WORDS]) == pytest.approx([value, reward(image, [WORDS])[0]], abs=1e-12)


def test_a_caption_that_breaks_off_earns_less() -> None:
    ids = {word: number for number, word in enumerate(WORDS, start=4)}
    whole = [START, *(ids[word] for word in ("a", "dog", "sits", "on", "a", "road")), END]
    others = [[START, *random.Random(seed).choices(range(4, 14), k=6), END] for seed in range(20)]
    reward = make_reward([[whole], *([other] for other in others)])
    broken_off, complete = reward(0, [whole[1:-1], whole[1:]])
    assert broken_off < complete
    assert complete == pytest.approx(10)


@pytest.mark.parametrize("members", [1, 3])
def test_the_loss_is_reinforce_with_the_mean_of_the_others(members: int) -> None:
    tiny = make_captioner(members=members)
    decoder = tiny.model.decoder.train()
    torch.manual_seed(0)
    grid = torch.randn(2, 4, tiny.model.encoder.channels)
    reward = make_reward([[[START, 4, 6, 8, END]], [[START, 5, 7, 9, END]]])
    loss, mean, *_ = self_critical_loss(decoder, grid, [0, 1], reward, samples=3, seed=7)
    assert decoder.training

    options = DecodingOptions(sample=True, num_captions=3, max_words=20, no_repeat_ngram=0, seed=7)
    drawn = decode(decoder.eval(), grid, options)
    total, words, rewards = torch.tensor(0.0), 0, []
    for image, group in enumerate(drawn):
        closed = [[*each.words, END][: len(each.log_probabilities)] for each in group]
        values = [reward(image, [ids])[0] for ids in closed]
        rewards += values
        for number, (ids, value) in enumerate(zip(closed, values, strict=True)):
            others = values[:number] + values[number + 1 :]
            total = total - (value - sum(others) / 2) * log_chance_of_drawing(decoder, grid[image : image + 1], ids)
            words += len(ids)
    expected = total / words
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert mean == pytest.approx(sum(rewards) / 6)
    parameters = list(decoder.parameters())
    for one, two in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)


def log_chance_of_drawing(decoder: Decoder | MemberDecoders, grid: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Logarithm of the probability of a caption among those that can be drawn, word by word."""
    ensemble, word, total = Ensemble([decoder], [grid]), START, torch.tensor(0.0)
    for following in ids:
        log_probabilities, _ = ensemble.step(torch.tensor([word]))
        chances = log_probabilities[0].softmax(0)
        possible = 1 - chances[PAD] - chances[START] - chances[UNKNOWN]
        total = total + (chances[following] / possible).log()
        word = following
    return total


def test_training_on_the_reward_raises_it() -> None:
    model = make_captioner().model
    decoder = model.decoder
    torch.manual_seed(0)
    grid = torch.randn(3, 4, model.encoder.channels)
    wanted = [[START, 4, 6, 8, 9, END], [START, 5, 7, 9, 6, END], [START, 4, 7, 10, 11, END]]
    reward = make_reward([[each] for each in wanted])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    means = []
    for step in range(60):
        loss, mean, *_ = self_critical_loss(decoder, grid, [0, 1, 2], reward, samples=8, seed=step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        means.append(mean)
    assert sum(means[-10:]) > 2 * sum(means[:10]) + 1
