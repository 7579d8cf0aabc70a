"""Self-critical training: captions that score better than their siblings become likelier (Rennie et al., 2017).

REINFORCE with the reward of CIDEr-D. The baseline of a caption is the mean reward of the other captions drawn for its
image (Luo, 2020), so no caption has to be written beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner.decoding import DecodingOptions, Hypothesis, decode
from captioner.metrics.cider import CiderReward
from captioner.models.decoder import Decoder, MemberDecoders, TeacherForced
from captioner.text.vocabulary import END, NEVER_WRITTEN, PAD, START
from captioner.training.objectives.objective import Objective, Term, TrainingStep, combine
from captioner.training.objectives.rewards import PenalizedReward
from captioner.training.options import SelfCriticalOptions

if TYPE_CHECKING:
    from captioner.training.datamodule import CaptionData

MAX_WORDS = 20


class Reward(Protocol):
    """Tells how good captions of an image are."""

    def __call__(self, image: int, captions: Sequence[Sequence[int]]) -> Sequence[float]:
        """Scores captions.

        Args:
            image: The image's place in the training data.
            captions: Word ids of each, without START, with END where the caption came to an end.
        """


class SelfCritical(Objective):
    """Rewards for captions that the decoder draws itself; the objectives before it keep the rest of the loss.

    Args:
        options: Share of the rewards in the loss, how many captions are drawn, and what takes off from a reward.
        beside: Objectives that learn from the captions drawn too.
    """

    def __init__(self, options: SelfCriticalOptions, beside: Sequence[Objective] = ()) -> None:
        self.options = options
        self.beside = beside
        self.reward: Reward

    def begin(self, data: CaptionData, device: torch.device) -> None:
        """Count what rewards are computed from."""
        self.reward = make_reward(data.train.captions)
        penalties = self.options.hallucination_penalty, self.options.repetition_penalty
        if any(penalties):
            self.reward = PenalizedReward(self.reward, data.train.records, data.vocabulary.words, *penalties)
        for objective in self.beside:
            objective.begin(data, device)

    def __call__(self, step: TrainingStep) -> Term:
        """Draw captions, and combine their loss with that of the objectives beside."""
        places = step.batch.indices.tolist()
        drawn = self_critical_loss(step.model.decoder, step.grid, places, self.reward, self.options.samples, step.seed)
        rewarded = Term(drawn.loss, logged={"reward": drawn.reward})
        own_captions = replace(step, captions=drawn.captions, outcome=drawn.outcome)
        loss, logged = combine([rewarded, *(objective(own_captions) for objective in self.beside)])
        weight = self.options.weight
        return Term(loss, weight, 1 - weight, logged)


class Drawn(NamedTuple):
    """Captions that a decoder drew, and what follows.

    Attributes:
        loss: -Σ (r - b) log p over all words of all captions, a word, with p among the words that may be written.
        reward: The mean of r.
        captions: Word ids, shape (images, captions an image, length), as `Decoder.forward` takes them.
        outcome: What the decoder made of them, without dropout.
    """

    loss: Tensor
    reward: float
    captions: Tensor
    outcome: TeacherForced


def make_reward(captions: Sequence[Sequence[Sequence[int]]]) -> CiderReward:
    """A reward of captions as `Vocabulary.encode` gives them, for each image.

    END counts as a word, so that a caption that breaks off does not look like one that is whole.
    """
    return CiderReward([[ids[1:] for ids in group] for group in captions])


def self_critical_loss(
    decoder: Decoder | MemberDecoders, grid: Tensor, places: Sequence[int], reward: Reward, samples: int, seed: int
) -> Drawn:
    """Draw captions and weigh their log-probabilities by how much better they did than the image's others.

    Args:
        decoder: The decoder, in training mode.
        grid: Feature vectors, shape (images, regions, channels).
        places: Which of the reward's images they are.
        reward: Scores what is drawn, as one made by `make_reward` does.
        samples: Captions drawn of each image, at least 2.
        seed: Another seed draws other captions.

    Returns:
        The loss, and what was drawn.
    """
    options = DecodingOptions(sample=True, num_captions=samples, max_words=MAX_WORDS, seed=seed)
    # Without dropout, here and below: what is drawn must be what the gradient is of.
    decoder.eval()
    drawn = [[_closed(each) for each in group] for group in decode(decoder, grid, options)]
    rewards = torch.tensor([reward(place, group) for place, group in zip(places, drawn, strict=True)])
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (samples - 1)
    captions = torch.full((len(drawn), samples, MAX_WORDS + 2), PAD)
    captions[:, :, 0] = START
    for row, group in enumerate(drawn):
        for column, ids in enumerate(group):
            captions[row, column, 1 : len(ids) + 1] = torch.tensor(ids)
    lengths = (captions[:, :, 1:] != PAD).sum(dim=2).flatten()
    captions = captions.to(grid.device)
    with torch.backends.cudnn.flags(enabled=False):  # its recurrent kernels keep no gradients in evaluation mode
        outcome = decoder(grid, captions)
    decoder.train()
    advantages = (rewards - others).flatten().repeat_interleave(lengths).to(grid.device)
    # They were drawn from among the words that may be written; UNKNOWN alone can take a tenth of what the others get.
    never = torch.tensor(NEVER_WRITTEN, device=grid.device)
    logits = outcome.logits.float().index_fill(1, never, -torch.inf)
    losses = cross_entropy(logits, outcome.targets, reduction="none")
    return Drawn((advantages * losses).mean(), float(rewards.mean()), captions, outcome)


def _closed(drawn: Hypothesis) -> list[int]:
    """The words, END included where the caption came to an end."""
    return [*drawn.words, END] if len(drawn.log_probabilities) > len(drawn.words) else drawn.words
