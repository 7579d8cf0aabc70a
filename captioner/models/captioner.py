"""The network: encoder and decoder, tensors in, tensors out."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from captioner.data.transforms import Transform
from captioner.models.backbones import WEIGHTS_NONE
from captioner.models.decoder import DecoderConfig, TeacherForced, make_decoder
from captioner.models.encoder import GridEncoder


@dataclass(frozen=True)
class CaptionerConfig:
    """All that is needed, beside weights and words, to build a captioner.

    Attributes:
        encoder: Name of the CNN, as `GridEncoder` takes it.
        encoder_stage: The CNN's last stage that is used, as `GridEncoder` takes it; None uses all.
        feature_size: Length of the vectors that the decoder sees, as `GridEncoder` takes it; None leaves the CNN's.
        decoder: Shape of the decoder.
        transform: How a photograph becomes the encoder's input.
    """

    encoder: str = "timm/tf_efficientnet_lite0"
    encoder_stage: str | None = None
    feature_size: int | None = None
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    transform: Transform = field(default_factory=Transform)


class CaptionModel(nn.Module):
    """Encoder and decoder, optimised together: θ = {CNN, LSTM, E}.

    Args:
        config: Its shape.
        vocabulary_size: Number of words, the special ones included.
        encoder: A ready encoder, such as one with pretrained weights; a new one with random weights by default.
    """

    def __init__(self, config: CaptionerConfig, vocabulary_size: int, encoder: GridEncoder | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder or GridEncoder(config.encoder, WEIGHTS_NONE, config.encoder_stage, config.feature_size)
        self.decoder = make_decoder(config.decoder, self.encoder.channels, vocabulary_size)

    def forward(self, images: Tensor, captions: Tensor) -> TeacherForced:
        """Reads known captions of images.

        Args:
            images: Normalised RGB, shape (images, 3, size, size).
            captions: Word ids, shape (images, captions an image, length), as `Decoder.forward` takes them.

        Returns:
            What `Decoder.forward` returns.
        """
        result: TeacherForced = self.decoder(self.encoder(images), captions)
        return result
