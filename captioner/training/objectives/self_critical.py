"""Self-critical training (Rennie et al., 2017): captions that score better than their siblings become more likely.

REINFORCE with the reward of CIDEr-D. The baseline of a caption is the mean reward of the other captions drawn for its
image (Luo, 2020), so that no greedy caption is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner.decoding import DecodingOptions, Hypothesis, decode
from captioner.errors import CaptionerError
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
    """Scores captions of an image."""

    def __call__(self, image: int, captions: Sequence[Sequence[int]]) -> Sequence[float]:
        """Scores captions.

        Args:
            image: The image's index in the training data.
            captions: Token ids of each, without START, with END if the caption is complete.
        """


class SelfCritical(Objective):
    """Self-critical loss on captions sampled from the decoder; earlier objectives share the rest of the loss.

    Args:
        options: Share of the loss, number of samples, and penalties.
        beside: Objectives that also learn from the sampled captions.
    """

    def __init__(self, options: SelfCriticalOptions, beside: Sequence[Objective] = ()) -> None:
        self.options = options
        self.beside = beside
        self.reward: Reward

    def begin(self, data: CaptionData, device: torch.device) -> None:
        """Precompute the statistics of the references."""
        penalties = self.options.hallucination_penalty, self.options.repetition_penalty
        tokenizer = data.vocabulary.tokenizer
        if tokenizer is not None and (tokenizer.kind != "words" or any(penalties)):
            raise CaptionerError(
                "self-critical training rewards words, and its penalties know English alone; set data.tokenizer to "
                "words, and the penalties to 0"
            )
        self.reward = make_reward(data.train.captions)
        if any(penalties):
            self.reward = PenalizedReward(self.reward, data.train.records, data.vocabulary.words, *penalties)
        for objective in self.beside:
            objective.begin(data, device)

    def __call__(self, step: TrainingStep) -> Term:
        """Sample captions, and combine their loss with that of the further objectives."""
        places = step.batch.indices.tolist()
        drawn = self_critical_loss(step.model.decoder, step.grid, places, self.reward, self.options.samples, step.seed)
        rewarded = Term(drawn.loss, logged={"reward": drawn.reward})
        own_captions = replace(step, captions=drawn.captions, outcome=drawn.outcome)
        loss, logged = combine([rewarded, *(objective(own_captions) for objective in self.beside)])
        weight = self.options.weight
        return Term(loss, weight, 1 - weight, logged)


class Drawn(NamedTuple):
    """Sampled captions with their loss.

    Attributes:
        loss: -Σ (r - b) log p, per word of all captions, with p normalized over the allowed words.
        reward: The mean of r.
        captions: Word ids, shape (images, captions per image, length), as `Decoder.forward` takes them.
        outcome: The decoder's output for them, without dropout.
    """

    loss: Tensor
    reward: float
    captions: Tensor
    outcome: TeacherForced


def make_reward(captions: Sequence[Sequence[Sequence[int]]]) -> CiderReward:
    """Build the CIDEr-D reward from the references of each image.

    END counts as a word, to distinguish truncated captions.
    """
    return CiderReward([[ids[1:] for ids in group] for group in captions])


def self_critical_loss(
    decoder: Decoder | MemberDecoders, grid: Tensor, places: Sequence[int], reward: Reward, samples: int, seed: int
) -> Drawn:
    """Sample captions and weight their log-probabilities by the advantage over the image's other samples.

    Args:
        decoder: The decoder, in training mode.
        grid: Feature vectors, shape (images, regions, channels).
        places: Indices of the images for the reward.
        reward: Scores the samples; see `make_reward`.
        samples: Samples per image, at least 2.
        seed: Seed of the samples.

    Returns:
        The loss and the samples.
    """
    # No words are ruled out here, and there is no dropout below: samples must come from the distribution that is
    # differentiated.
    options = DecodingOptions(sample=True, num_captions=samples, max_words=MAX_WORDS, no_repeat_ngram=0, seed=seed)
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
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrent kernels have no backward in evaluation mode
        outcome = decoder(grid, captions)
    decoder.train()
    advantages = (rewards - others).flatten().repeat_interleave(lengths).to(grid.device)
    # Samples come from the allowed words only; UNKNOWN alone can have a tenth of the probability.
    never = torch.tensor(NEVER_WRITTEN, device=grid.device)
    logits = outcome.logits.float().index_fill(1, never, -torch.inf)
    losses = cross_entropy(logits, outcome.targets, reduction="none")
    return Drawn((advantages * losses).mean(), float(rewards.mean()), captions, outcome)


def _closed(drawn: Hypothesis) -> list[int]:
    """The tokens, END included if the caption is complete."""
    return [*drawn.words, END] if len(drawn.log_probabilities) > len(drawn.words) else drawn.words
