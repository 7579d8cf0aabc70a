"""The captioning network: encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from captioner.data.transforms import Transform
from captioner.models.backbones import WEIGHTS_NONE
from captioner.models.confidence import Confidence
from captioner.models.decoder import DecoderConfig, TeacherForced, make_decoder
from captioner.models.encoder import GridEncoder


@dataclass(frozen=True)
class CaptionerConfig:
    """Configuration of a captioner: everything but weights and vocabulary.

    Attributes:
        encoder: Name of the CNN, as in `GridEncoder`.
        encoder_stage: Last stage of the CNN that is used, as in `GridEncoder`; None uses all.
        feature_size: Length of the decoder's feature vectors, as in `GridEncoder`; None keeps the CNN's.
        decoder: Configuration of the decoder.
        transform: Preprocessing of images.
        confidence: Whether it has been calibrated to tell its confidence (`captioner calibrate`).
    """

    encoder: str = "timm/tf_efficientnet_lite0"
    encoder_stage: str | None = None
    feature_size: int | None = None
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    transform: Transform = field(default_factory=Transform)
    confidence: bool = False


class CaptionModel(nn.Module):
    """Encoder and decoder, trained jointly: θ = {CNN, LSTM, E}.

    Args:
        config: Configuration of both.
        vocabulary_size: Number of tokens, the special ones included.
        encoder: An encoder, such as one with pretrained weights; by default a new one with random weights.
    """

    def __init__(self, config: CaptionerConfig, vocabulary_size: int, encoder: GridEncoder | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder or GridEncoder(config.encoder, WEIGHTS_NONE, config.encoder_stage, config.feature_size)
        self.decoder = make_decoder(config.decoder, self.encoder.channels, vocabulary_size)
        self.confidence = Confidence(self.encoder.channels, vocabulary_size) if config.confidence else None

    def encodes_as(self, other: CaptionModel) -> bool:
        """Whether another model's decoder can use the grids of this model's encoder."""
        return self.config.transform == other.config.transform and self.encoder.sees_as(other.encoder)

    def forward(self, images: Tensor, captions: Tensor) -> TeacherForced:
        """Predict each token of known captions of images (teacher forcing).

        Args:
            images: Normalized RGB, shape (images, 3, size, size).
            captions: Token ids, shape (images, captions per image, length), as in `Decoder.forward`.

        Returns:
            The result of `Decoder.forward`.
        """
        result: TeacherForced = self.decoder(self.encoder(images), captions)
        return result


def confidence_of(models: Sequence[CaptionModel]) -> Confidence | None:
    """Return the confidence in captions of an ensemble; None unless it was fitted to these networks together."""
    confidence = models[0].confidence
    return confidence if confidence is not None and int(confidence.networks) == len(models) else None


def attention_grid(models: Sequence[CaptionModel]) -> tuple[int, int] | None:
    """Return rows and columns of an ensemble's attention maps; None if it has none.

    Maps over other regions, or of another part of the image, cannot be averaged, nor those with and without a sentinel.
    """
    views = {(each.encoder.grid_shape(each.config.transform.size), each.config.transform.resize) for each in models}
    kinds = [each.config.decoder.attention for each in models]
    alike = len(views) == 1 and len({kind == "adaptive" for kind in kinds}) == 1
    return next(iter(views))[0] if alike and "none" not in kinds else None
