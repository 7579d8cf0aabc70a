"""Options of training, grouped by subject: the parts of ``model`` in a configuration file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.errors import CaptionerError
from captioner.models.backbones import WEIGHTS_HUB
from captioner.training.warm_start import Part


@dataclass(frozen=True)
class EncoderOptions:
    """The CNN and its preprocessing.

    Attributes:
        name: Name of the CNN, as `captioner.models.encoder.GridEncoder` takes it.
        weights: ``hub``, ``package``, ``none`` or a file.
        last_stage: The CNN's last stage that is used; an earlier one gives a finer grid. None uses all.
        feature_size: Length to which a linear map brings the CNN's feature vectors, its stage ``projection``, that has
            to be trained or taken from a checkpoint. None leaves them as they are.
        unfreeze_from: The CNN's first trained stage, ``all`` for the whole of it, None to keep it frozen.
        image_size: Height and width of the CNN's input, in pixels.
        resize: ``squash`` or ``crop``; see `captioner.data.transforms.Transform`.
    """

    name: str = "timm/tf_efficientnet_lite0"
    weights: str = WEIGHTS_HUB
    last_stage: str | None = None
    feature_size: int | None = None
    unfreeze_from: str | None = None
    image_size: int = 224
    resize: str = "squash"


@dataclass(frozen=True)
class StartOptions:
    """Initial weights.

    Attributes:
        checkpoint: Checkpoint whose weights the model begins with, such as one trained with a frozen CNN; a list of one
            for each member of the decoder, the CNN of the first; None begins anew.
        part: What of it is taken: ``all``, or ``encoder``, to train a decoder anew on a CNN that was tuned.
        word_vectors: Text file in GloVe's format that the embedding starts from; None starts it at random.
    """

    checkpoint: str | list[str] | None = None
    part: Part = "all"
    word_vectors: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.checkpoint, list) and self.part != "all":
            raise CaptionerError(
                f"model.start.part {self.part} takes from one checkpoint; model.start.checkpoint is a list"
            )

    @property
    def checkpoints(self) -> Sequence[str]:
        """All checkpoints, in the order of the decoder's members."""
        return [self.checkpoint] if isinstance(self.checkpoint, str) else self.checkpoint or []


@dataclass(frozen=True)
class OptimizerOptions:
    """Options of the optimizer.

    Attributes:
        learning_rate: Peak learning rate of the decoder (Adam).
        weight_decay: Decoupled weight decay of matrices; vectors are not decayed.
        warmup_steps: Steps over which the learning rates rise from 0; afterwards they fall to 0 along a cosine.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay", "warmup_steps"):
            _refuse_negative(f"optimizer.{name}", getattr(self, name))


@dataclass(frozen=True)
class CaptionerOptimizerOptions(OptimizerOptions):
    """Options of the optimizer of CNN and decoder.

    Attributes:
        learning_rate: Peak learning rate of the decoder (Adam).
        weight_decay: Decoupled weight decay of matrices; vectors are not decayed.
        warmup_steps: Steps over which the learning rates rise from 0; afterwards they fall to 0 along a cosine.
        encoder_learning_rate: Peak learning rate of the trained stages of the CNN.
        ema: Decay of a moving average of the weights, such as 0.999, in [0, 1); the average is what is validated and
            written for use. 0 keeps none.
    """

    encoder_learning_rate: float = 1e-5
    ema: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_negative("optimizer.encoder_learning_rate", self.encoder_learning_rate)
        _refuse_no_rest("optimizer.ema", self.ema)


@dataclass(frozen=True)
class LossOptions:
    """Weights of the losses on reference captions.

    Attributes:
        label_smoothing: Share of the target probability that is spread over all words, in [0, 1).
        attention_regularization: Weight λ of the doubly stochastic term (Show, Attend and Tell, equation 14).
        location_reward: Weight of learning where to look by reward, for hard attention.
        location_entropy: Weight of the entropy of where it looks, within that.
        concepts: Weight of which words captions and tags name, where the decoder has concepts.
        kept_classes: Weight of what the pretrained CNN knew of its classes; for one with packaged weights.
    """

    label_smoothing: float = 0.0
    attention_regularization: float = 1.0
    location_reward: float = 1.0
    location_entropy: float = 0.01
    concepts: float = 0.1
    kept_classes: float = 0.0

    def __post_init__(self) -> None:
        _refuse_no_rest("losses.label_smoothing", self.label_smoothing)
        for name in ("concepts", "kept_classes"):
            _refuse_negative(f"losses.{name}", getattr(self, name))


@dataclass(frozen=True)
class WordNoiseOptions:
    """Noise on a language model's inputs.

    Attributes:
        word_dropout: Share of the words read that are replaced by UNKNOWN, in [0, 1].
    """

    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        _refuse_no_share("noise.word_dropout", self.word_dropout)


@dataclass(frozen=True)
class NoiseOptions(WordNoiseOptions):
    """Noise on a captioner's inputs.

    Attributes:
        word_dropout: Share of the words read that are replaced by UNKNOWN, in [0, 1].
        feature_dropout: Share of the grid's channels that a step leaves out, in [0, 1).
        scheduled_sampling: Share of the words read that are the decoder's own at the end of training, in [0, 1]; it
            rises from 0 along a line.
    """

    feature_dropout: float = 0.0
    scheduled_sampling: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_no_share("noise.scheduled_sampling", self.scheduled_sampling)
        _refuse_no_rest("noise.feature_dropout", self.feature_dropout)


@dataclass(frozen=True)
class SelfCriticalOptions:
    """Self-critical training on CIDEr-D, for a second phase, with ``start.checkpoint``.

    Attributes:
        weight: Weight of the rewards in the loss, in [0, 1]; cross-entropy has the rest.
        samples: Captions drawn of each image.
        hallucination_penalty: Taken off CIDEr-D, which is in [0, 10], for each of COCO's things that a caption names
            and neither a reference nor a tag of its image has.
        repetition_penalty: Taken off for each content word or pair of words that a caption says again, and for each
            "a" in the place of "an".
    """

    weight: float = 0.0
    samples: int = 5
    hallucination_penalty: float = 0.0
    repetition_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hallucination_penalty", "repetition_penalty"):
            _refuse_negative(f"self_critical.{name}", getattr(self, name))
        _refuse_no_share("self_critical.weight", self.weight)
        if self.samples < 2:
            raise CaptionerError(
                f"model.self_critical.samples is {self.samples}; it must be at least 2, for each to have a rival"
            )


@dataclass(frozen=True)
class DistillationOptions:
    """Distillation from other captioners.

    Attributes:
        teachers: Checkpoints of captioners with the same words whose next words are learned beside those of the
            references, or in self-critical training beside the rewards, after the words of the captions drawn, those
            that the model itself will come upon (Agarwal et al., 2024).
        weight: Weight of what the teachers expect in that loss, in [0, 1]; references or rewards have the rest.
    """

    teachers: list[str] | None = None
    weight: float = 0.5

    def __post_init__(self) -> None:
        _refuse_no_share("distillation.weight", self.weight)


def _refuse_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise CaptionerError(f"model.{name} is {value}; it must be at least 0")


def _refuse_no_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise CaptionerError(f"model.{name} is {value}; it must be at least 0 and at most 1")


def _refuse_no_rest(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise CaptionerError(f"model.{name} is {value}; it must be at least 0 and less than 1")
