"""How the terms of the loss are put together, and what each objective is given."""

from __future__ import annotations

import pytest
import torch
from conftest import make_captioner
from torch import nn

from captioner.data.dataset import Batch
from captioner.text.vocabulary import END, PAD, START
from captioner.training.objectives.attention import AttentionPenalty
from captioner.training.objectives.location import BASELINE_RATE, LocationLoss, location_loss
from captioner.training.objectives.objective import Objective, Term, TrainingStep, combine
from captioner.training.objectives.self_critical import SelfCritical, make_reward
from captioner.training.objectives.words import WordLoss, word_loss
from captioner.training.options import SelfCriticalOptions

CAPTIONS = torch.tensor([[[START, 4, 6, 8, END]], [[START, 5, 7, END, PAD]]])


def make_step(attention: str = "soft") -> TrainingStep:
    model = make_captioner(attention).model
    model.decoder.train()
    torch.manual_seed(0)
    grid = torch.randn(2, 4, model.encoder.channels)
    batch = Batch(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), CAPTIONS, torch.tensor([1, 0]))
    return TrainingStep(model, batch, 7, None, grid, grid, CAPTIONS, model.decoder(grid, CAPTIONS))


def test_terms_are_added_or_mixed_in_their_order() -> None:
    two, three, five = torch.tensor([2.0, 3.0, 5.0]).requires_grad_()
    terms = [Term(two, logged={"two": two}), Term(three, 0.5), Term(five, 0.25, 0.75, {"five": 5.0})]
    loss, logged = combine(terms)
    assert loss.item() == pytest.approx(0.75 * (2 + 0.5 * 3) + 0.25 * 5)
    gradients = torch.autograd.grad(loss, [two, three, five])
    assert [each.item() for each in gradients] == [0.75, 0.375, 0.25]
    assert logged == {"two": two, "five": 5.0}


def test_words_and_attention_are_those_of_the_outcome() -> None:
    step = make_step()
    words, looks = WordLoss(0.1)(step), AttentionPenalty(0.6)(step)
    assert step.outcome.attention is not None
    assert torch.equal(words.loss, word_loss(step.outcome, 0.1))
    uneven = (1 - step.outcome.attention.sum(1)).square().mean()
    torch.testing.assert_close(looks.loss, uneven)
    assert (words.weight, words.rest, looks.weight, looks.rest) == (1, 1, 0.6, 1)
    assert (words.logged, looks.logged) == ({"loss": words.loss}, {"attention_penalty": looks.loss})


def test_the_baseline_of_hard_attention_follows_the_reward_and_is_saved() -> None:
    step, keeper = make_step("hard"), nn.Module()
    objective = LocationLoss(0.7, 0.05, keeper)
    loss, reward = location_loss(step.outcome, torch.zeros(()), 0.05)
    term = objective(step)
    assert torch.equal(term.loss, loss)
    assert term.weight == 0.7
    torch.testing.assert_close(keeper.state_dict(), {"location_baseline": BASELINE_RATE * reward})
    assert not torch.equal(objective(step).loss, loss)


class Read(Objective):
    """Learns nothing; remembers what it was given."""

    def __init__(self) -> None:
        self.steps: list[TrainingStep] = []

    def __call__(self, step: TrainingStep) -> Term:
        self.steps.append(step)
        return Term(torch.tensor(11.0), 0.25, 0.75, {"read": 1.0})


def test_what_is_learned_beside_rewards_is_learned_of_the_captions_drawn() -> None:
    step, beside = make_step(), Read()
    objective = SelfCritical(SelfCriticalOptions(0.8, 3), [beside])
    objective.reward = make_reward([[[START, 4, 6, 8, END]], [[START, 5, 7, 9, END]]])
    term = objective(step)
    [given] = beside.steps
    assert given.captions.shape[:2] == (2, 3)
    real = given.captions[:, :, 1:] != PAD
    assert torch.equal(given.outcome.targets, given.captions[:, :, 1:][real])
    assert given.batch is step.batch

    alone = SelfCritical(SelfCriticalOptions(0.8, 3))
    alone.reward = objective.reward
    torch.testing.assert_close(term.loss, 0.75 * alone(step).loss + 0.25 * torch.tensor(11.0))
    assert term.weight == 0.8
    assert term.rest == pytest.approx(0.2)
    assert term.logged == {**alone(step).logged, "read": 1.0}


def test_rewards_are_of_the_images_of_the_batch() -> None:
    step = make_step()
    asked: list[int] = []

    def reward(image: int, captions: object) -> list[float]:
        asked.append(image)
        return [1.0, 2.0]

    objective = SelfCritical(SelfCriticalOptions(1.0, 2))
    objective.reward = reward
    assert objective(step).logged == {"reward": 1.5}
    assert asked == step.batch.indices.tolist()
