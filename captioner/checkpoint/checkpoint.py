"""The content of a checkpoint, and the network built from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captioner.checkpoint.schema import FORMAT, METADATA_KEY, TOKENIZER_FORMAT, Config, parse
from captioner.errors import CaptionerError, first_line
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.language_model import LanguageConfig, LanguageModel
from captioner.text.pieces import Pieces
from captioner.text.vocabulary import Vocabulary

ModelT = TypeVar("ModelT", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, or of one member of an ensemble.

    Attributes:
        config: Configuration of the network, with the preprocessing.
        words: The vocabulary, in the order of ids.
        weights: State dict of the network.
        card: Model card in plain JSON values: data, scores, limits, license.
        origin: Name of the checkpoint in messages.
        tokenizer: What divides captions into the vocabulary's tokens; None for English words.
    """

    config: Config
    words: tuple[str, ...]
    weights: Mapping[str, Tensor]
    card: Mapping[str, Any]
    origin: str = "the checkpoint"
    tokenizer: Pieces | None = None

    def header(self) -> str:
        """Serialize everything but the weights as JSON."""
        header = {"format": FORMAT, "config": asdict(self.config), "words": self.words, "card": self.card}
        if self.tokenizer is not None:
            header |= {"format": TOKENIZER_FORMAT, "tokenizer": self.tokenizer.facts()}
        # In ASCII, since the name of a caption file may not be valid Unicode.
        return json.dumps(header)

    def build(self) -> tuple[CaptionModel, Vocabulary]:
        """Build the captioner, in evaluation mode on the CPU in float32, and its vocabulary.

        Raises:
            CaptionerError: Weights, words and configuration are inconsistent.
        """
        config = self.config
        with naming(self.origin):
            if isinstance(config, LanguageConfig):
                raise CaptionerError("is of a language model, which sees no pictures; try captioner sample")
            vocabulary = Vocabulary(self.words, self.tokenizer)
            model = self._fill(lambda words: CaptionModel(config, words))
        return model.to(memory_format=torch.channels_last), vocabulary

    def build_language_model(self) -> tuple[LanguageModel, Vocabulary]:
        """Build the language model and its vocabulary, as `build` does.

        Raises:
            CaptionerError: As for `build`.
        """
        config = self.config
        with naming(self.origin):
            if isinstance(config, CaptionerConfig):
                raise CaptionerError("is of a captioner, no language model; try captioner caption")
            vocabulary = Vocabulary(self.words)
            return self._fill(lambda words: LanguageModel(config, words)), vocabulary

    def verify(self) -> None:
        """Check that a network, captioner or language model, can be built.

        Raises:
            CaptionerError: As for `build`.
        """
        self.build() if isinstance(self.config, CaptionerConfig) else self.build_language_model()

    def _fill(self, make: Callable[[int], ModelT]) -> ModelT:
        """Build a network for the vocabulary, with the weights of the checkpoint."""
        for many in ("layers", "members"):
            number = getattr(self.config.decoder, many)
            if number > max(1, len(self.weights)):
                raise CaptionerError(f"has no weights for {number} {many}; it was edited")
        # Built without values (meta), then given the tensors of the file: nothing is initialized in vain.
        try:
            with torch.device("meta"), _WithoutValues():
                model = make(len(self.words))
        except (RuntimeError, TypeError, OverflowError) as error:
            raise CaptionerError(f"its configuration makes no network ({first_line(error)}); it was edited") from error
        wanted = model.state_dict()
        for name, parameter in wanted.items():
            if name not in self.weights:
                raise CaptionerError(f"lacks the weights {name}; it was cut or belongs to another version")
            if self.weights[name].is_floating_point() != parameter.is_floating_point():
                raise CaptionerError(
                    f"its weights {name} are {self.weights[name].dtype}, not {parameter.dtype}; it is malformed"
                )
            if self.weights[name].shape != parameter.shape:
                raise CaptionerError(
                    f"its weights {name} have shape {tuple(self.weights[name].shape)}, but its "
                    f"configuration and its {len(self.words)} words need {tuple(parameter.shape)}; "
                    "it is malformed"
                )
        weights = {
            name: value.float() if value.is_floating_point() else value
            for name, value in self.weights.items()
            if name in wanted
        }
        model.load_state_dict(weights, assign=True)
        if any(buffer.is_meta for buffer in model.buffers()):
            # Buffers that a network computes itself, such as an anti-aliasing filter, are in no file.
            model = make(len(self.words))
            model.load_state_dict(weights)
        return model.eval()


class _WithoutValues(TorchFunctionMode):
    """Skips weight initialization, which on the meta device would import torch's compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        return kwargs["tensor"] if getattr(func, "__module__", "") == "torch.nn.init" else func(*args, **kwargs)


def refuse_other_words(members: Sequence[Checkpoint]) -> None:
    """Refuse an ensemble of models with different vocabularies.

    Raises:
        CaptionerError: The vocabularies differ.
    """
    first, *others = members
    for other in others:
        if (other.words, other.tokenizer) != (first.words, first.tokenizer):
            raise CaptionerError(
                f"{first.origin} and {other.origin}: their words differ ({len(first.words)} and {len(other.words)}); "
                "an ensemble needs models trained on one vocabulary"
            )


def refuse_another(lightning_checkpoint: Mapping[str, Any], model: Checkpoint) -> None:
    """Refuse to resume a run from a checkpoint with another vocabulary or configuration.

    Args:
        lightning_checkpoint: The checkpoint, as read by Lightning.
        model: The model of the run; its weights do not matter.

    Raises:
        CaptionerError: The checkpoint is of another model.
    """
    if METADATA_KEY not in lightning_checkpoint:
        raise CaptionerError("the checkpoint to resume from was not written by captioner train")
    config, words, _, tokenizer, _ = parse(lightning_checkpoint[METADATA_KEY])
    if tokenizer != model.tokenizer:
        raise CaptionerError(
            "the checkpoint to resume from has another tokenizer; resume with the data and data.tokenizer it was "
            "trained with"
        )
    if words != model.words:
        raise CaptionerError(
            f"the checkpoint to resume from has {len(words)} words, the data's vocabulary "
            f"{len(model.words)}, or in another order; resume with the data and min_count it was trained with"
        )
    if config != model.config:
        raise CaptionerError("the checkpoint to resume from has another configuration of the model; use its own")


@contextmanager
def naming(origin: str) -> Iterator[None]:
    """Prefix the messages of errors with the origin of the checkpoint."""
    try:
        yield
    except CaptionerError as error:
        raise CaptionerError(f"{origin}: {error}") from error
