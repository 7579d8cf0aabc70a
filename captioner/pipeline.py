"""The captioner: generates and scores captions of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captioner import checkpoint
from captioner.caption import Caption
from captioner.captioning import BATCH_SIZE, BaseCaptioner, Decoded, LoadedImage, TokenHypothesis
from captioner.checkpoint.pretrained import FileName, names_of
from captioner.data.images import ImageSource
from captioner.data.transforms import to_pixels
from captioner.decoding import DecodingOptions, Hypothesis, decode, score_captions
from captioner.errors import CaptionerError, first_line
from captioner.models.caption_features import caption_features
from captioner.models.captioner import CaptionModel, attention_grid, confidence_of
from captioner.models.confidence import Evidence, suggested
from captioner.models.decoder import Decoder, MemberDecoders
from captioner.models.encoder import GridEncoder
from captioner.models.inference import choose_dtypes, prepare
from captioner.text.vocabulary import PAD, Vocabulary
from captioner.whole_words import WholeWords


@dataclass(frozen=True)
class _Decoded(Decoded):
    """With the evidence for the confidences, None for a model that was not calibrated."""

    evidence: Evidence | None = None


class Captioner(BaseCaptioner):
    """A network with vocabulary and preprocessing, which captions images.

    Args:
        model: The network; set to evaluation mode.
        vocabulary: Its vocabulary.
        card: Its model card.
        device: Its device, such as ``cpu`` or ``cuda``.
        others: Further networks of an ensemble, with the same vocabulary; log-probabilities are averaged.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 for the decoder on CPUs that are faster with it.
            The networks themselves stay float32; captions are generated with copies made now.

    Raises:
        CaptionerError: The device or precision is unavailable.
    """

    def __init__(
        self,
        model: CaptionModel,
        vocabulary: Vocabulary,
        card: Mapping[str, Any],
        device: str | torch.device = "cpu",
        others: Sequence[CaptionModel] = (),
        precision: str = "float32",
    ) -> None:
        try:
            self.device = torch.device(device)
            if self.device.type == "meta":
                raise RuntimeError("it holds no numbers")
            self.members = tuple(each.to(self.device).eval() for each in (model, *others))
        except (RuntimeError, AssertionError, ImportError) as error:
            reason = first_line(error)
            if "Expected one of cpu" in reason:  # torch lists devices that no build has
                raise CaptionerError(
                    f"device {str(device)!r} is unknown; choose cpu, cuda, a GPU of several such as cuda:1, or mps"
                ) from error
            raise CaptionerError(f"device {str(device)!r} cannot be used: {reason}; try cpu") from error
        self._dtypes = choose_dtypes(precision, self.device)
        self._prepared: list[CaptionModel] = []
        for member in self.members:
            before = zip(self.members, self._prepared, strict=False)
            encoder = next((ready.encoder for one, ready in before if one.encodes_as(member)), None)
            self._prepared.append(prepare(member, self._dtypes, encoder))
        self.model = model
        grid_shape = model.encoder.grid_shape(model.config.transform.size)
        transforms = list(dict.fromkeys(member.config.transform for member in self.members))
        super().__init__(vocabulary, card, transforms, grid_shape, torch.get_num_threads())
        self._shows_attention = attention_grid(self.members) is not None

    @property
    def shows_attention(self) -> bool:
        """Whether its captions have attention maps: all members need attention of the same kind."""
        return self._shows_attention

    @property
    def tells_confidence(self) -> bool:
        """Whether its captions have a confidence, which is fitted to all its networks together."""
        return confidence_of(self.members) is not None

    def stream_with_evidence(
        self, images: Iterable[ImageSource], options: DecodingOptions | None = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[Caption, Evidence | None] | CaptionerError]:
        """Caption images like `stream`, with the inputs of each caption's confidence.

        Args:
            images: The images, consumed one batch at a time.
            options: The decoding options.
            batch_size: Images per batch.

        Yields:
            For each image, in order, its caption and the evidence, None for an uncalibrated model; or the error if it
            is unreadable.
        """
        for result in self._stream(images, options, batch_size):
            if isinstance(result, CaptionerError):
                yield result
            else:
                caption, decoded = result
                assert isinstance(decoded, _Decoded)
                yield caption, decoded.evidence

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write a checkpoint for `load`, with all members of an ensemble; see `checkpoint.write`."""
        contents = [
            checkpoint.Checkpoint(
                each.config, self.vocabulary.words, each.state_dict(), self.card, tokenizer=self.vocabulary.tokenizer
            )
            for each in self.members
        ]
        checkpoint.write(path, *contents, dtype=dtype)

    def _decode(
        self, images: Sequence[LoadedImage], options: DecodingOptions, rules: WholeWords | None
    ) -> list[_Decoded]:
        grids = self._grids(images)
        hypotheses = decode(self._decoders(), grids, options, rules)
        return [
            _Decoded(found, self._confidences(evidence), evidence)
            for found, evidence in zip(hypotheses, self._evidence(grids, hypotheses), strict=True)
        ]

    def _score(self, image: LoadedImage, captions: Sequence[Sequence[int]]) -> list[Hypothesis]:
        ids = [torch.tensor(caption) for caption in captions]
        words = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD).unsqueeze(0)
        [hypotheses] = score_captions(self._decoders(), self._grids([image]), words)
        return hypotheses

    def _attention(self, hypothesis: TokenHypothesis) -> np.ndarray | None:
        assert isinstance(hypothesis, Hypothesis)
        return None if hypothesis.attention is None else hypothesis.attention.float().cpu().numpy()

    @torch.no_grad()
    def _evidence(
        self, grids: Sequence[Tensor], hypotheses: Sequence[Sequence[Hypothesis]]
    ) -> Sequence[Evidence | None]:
        """Inputs of the captions' confidences, computed by the first member."""
        confidence = self.model.confidence
        if confidence is None:
            return [None] * len(hypotheses)
        pictures = grids[0].float().mean(dim=1)
        concepts = suggested(self._prepared[0].decoder, grids[0], confidence.things)
        things: list[int] = confidence.things.tolist()
        features = (
            [caption_features(each.words, each.log_probabilities, things, of_picture) for each in captions]
            for captions, of_picture in zip(hypotheses, concepts, strict=True)
        )
        return [
            Evidence(picture, torch.tensor(each, device=picture.device))
            for picture, each in zip(pictures, features, strict=True)
        ]

    def _confidences(self, evidence: Evidence | None) -> list[float] | None:
        confidence = confidence_of(self.members)
        if confidence is None or evidence is None:
            return None
        confidences: list[float] = confidence(evidence)
        return confidences

    def _decoders(self) -> list[Decoder | MemberDecoders]:
        return [member.decoder for member in self._prepared]

    @torch.inference_mode()
    def _grids(self, images: Sequence[LoadedImage]) -> list[Tensor]:
        """Feature vectors of each member's encoder, shape (images, regions, channels); shared encoders run once."""
        grids: dict[GridEncoder, Tensor] = {}
        for member in self._prepared:
            if member.encoder not in grids:
                transform = member.config.transform
                batch = torch.stack([to_pixels(image.scaled[transform]) for image in images]).to(self.device)
                seen = transform.normalize(batch).to(self._dtypes.encoder)
                grids[member.encoder] = member.encoder(seen).to(self._dtypes.decoder)
        return [grids[member.encoder] for member in self._prepared]


def load(
    path: FileName | Sequence[FileName] | None = None,
    device: str | torch.device = "cpu",
    precision: str = "float32",
) -> Captioner:
    """Open a captioner; the embedded one needs no file and no internet.

    Args:
        path: A checkpoint made by ``captioner train`` or ``captioner export``, ``hf://owner/name``, one on the Hugging
            Face Hub, or ``default``, the embedded one, which is the default. Several, with the same vocabulary, make an
            ensemble.
        device: Its device, such as ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 for the decoder on CPUs that are faster with it.

    Returns:
        The captioner. It expects RGB arrays: pass ``array[..., ::-1]`` for OpenCV's.

    Raises:
        CaptionerError: The checkpoint is missing or cannot be read safely, the vocabularies of an ensemble differ, or
            the device or precision is unavailable.
    """
    first, *others = contents = [member for file in names_of(path) for member in checkpoint.read_members(file)]
    checkpoint.refuse_other_words(contents)
    model, vocabulary = first.build()
    return Captioner(model, vocabulary, first.card, device, [other.build()[0] for other in others], precision)
