"""The terms of the loss against their equations."""

from __future__ import annotations

import pytest
import torch

from captioner.models.decoder import TeacherForced
from captioner.training.objectives.attention import attention_penalty
from captioner.training.objectives.location import location_loss
from captioner.training.objectives.words import word_loss


def test_label_smoothing_spreads_its_share_over_all_words() -> None:
    logits, targets = torch.randn(3, 4, generator=torch.manual_seed(1)), torch.tensor([1, 0, 3])
    log_p = logits.log_softmax(1)
    expected = -(0.8 * log_p[range(3), targets] + 0.2 * log_p.mean(dim=1)).mean()
    found = word_loss(TeacherForced(logits, targets, None, None), label_smoothing=0.2)
    assert found.item() == pytest.approx(expected.item())


def test_attention_penalty_equals_its_equation() -> None:
    attention = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.2, 0.8], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    # Sums over time are (1.5, 0.5) and (0.2, 0.8); the third sentence has no words.
    expected = (0.5**2 + 0.5**2 + 0.8**2 + 0.2**2) / 4
    assert attention_penalty(attention).item() == pytest.approx(expected)


def test_location_loss_equals_its_equation() -> None:
    """Two captions, of two words and of one."""
    torch.manual_seed(5)
    logits, targets = torch.randn(3, 4), torch.tensor([1, 0, 3])
    attention = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.9, 0.1], [0.0, 0.0]]])
    chosen = torch.tensor([[0.75, 0.5], [0.1, 1.0]]).log()
    log_p = logits.log_softmax(1)[range(3), targets]
    rewards = [(log_p[0] + log_p[1]) / 2, log_p[2]]
    drawn = [torch.tensor(0.75 * 0.5).log(), torch.tensor(0.1).log()]
    entropy = -sum(p * torch.tensor(p).log() for p in (0.25, 0.75, 0.5, 0.5, 0.9, 0.1))
    expected = -(sum((r + 1.5) * d for r, d in zip(rewards, drawn, strict=True)) + 0.2 * entropy) / 3

    loss, reward = location_loss(TeacherForced(logits, targets, attention, chosen), torch.tensor(-1.5), 0.2)

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(reward, (rewards[0] + rewards[1]) / 2)


def test_cells_that_did_better_than_the_baseline_become_likelier() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    scores = torch.zeros(2, 1, 2, requires_grad=True)
    chosen = scores.log_softmax(-1)[:, :, 0]
    outcome = TeacherForced(logits, torch.tensor([0, 0]), scores.softmax(-1), chosen)
    location_loss(outcome, torch.tensor(-1.0), 0.0)[0].backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    well, badly = scores.grad[:, 0, 0].tolist()
    assert well < 0 < badly


def test_captions_of_padding_have_no_reward() -> None:
    logits, targets = torch.randn(1, 4), torch.tensor([2])
    attention, chosen = torch.tensor([[[0.5, 0.5]], [[0.0, 0.0]]]), torch.tensor([[0.5], [1.0]]).log()
    _, reward = location_loss(TeacherForced(logits, targets, attention, chosen), torch.zeros(()), 0.0)
    assert reward.item() == pytest.approx(logits.log_softmax(1)[0, 2].item())
