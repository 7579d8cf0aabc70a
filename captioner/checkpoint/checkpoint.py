"""What a checkpoint holds, and the network that it makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captioner.checkpoint.schema import FORMAT, METADATA_KEY, Config, parse
from captioner.errors import CaptionerError, first_line
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.language_model import LanguageConfig, LanguageModel
from captioner.text.vocabulary import Vocabulary

ModelT = TypeVar("ModelT", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, or of one member of an ensemble's.

    Attributes:
        config: Shape of the network, and the preprocessing.
        words: The vocabulary, in the order of ids.
        weights: The network's state dict.
        card: What is to be known of the model, in plain JSON values: its data, scores, limits, licence.
        origin: What messages call it.
    """

    config: Config
    words: tuple[str, ...]
    weights: Mapping[str, Tensor]
    card: Mapping[str, Any]
    origin: str = "the checkpoint"

    def header(self) -> str:
        """All but the weights, as JSON."""
        header = {"format": FORMAT, "config": asdict(self.config), "words": self.words, "card": self.card}
        # In ASCII, since the name of a file of captions may be no Unicode text.
        return json.dumps(header)

    def build(self) -> tuple[CaptionModel, Vocabulary]:
        """The network, in evaluation mode on the CPU in float32, and its words.

        Raises:
            CaptionerError: Weights, words and configuration do not belong together.
        """
        config = self.config
        with naming(self.origin):
            if isinstance(config, LanguageConfig):
                raise CaptionerError("is of a language model, which sees no pictures; try captioner sample")
            vocabulary = Vocabulary(self.words)
            model = self._fill(lambda words: CaptionModel(config, words))
        return model.to(memory_format=torch.channels_last), vocabulary

    def build_language_model(self) -> tuple[LanguageModel, Vocabulary]:
        """The same for a language model.

        Raises:
            CaptionerError: As above.
        """
        config = self.config
        with naming(self.origin):
            if isinstance(config, CaptionerConfig):
                raise CaptionerError("is of a captioner, no language model; try captioner caption")
            vocabulary = Vocabulary(self.words)
            return self._fill(lambda words: LanguageModel(config, words)), vocabulary

    def verify(self) -> None:
        """Refuses what makes no network, captioner or language model.

        Raises:
            CaptionerError: As above.
        """
        self.build() if isinstance(self.config, CaptionerConfig) else self.build_language_model()

    def _fill(self, make: Callable[[int], ModelT]) -> ModelT:
        """A network for so many words, with the file's weights."""
        for many in ("layers", "members"):
            number = getattr(self.config.decoder, many)
            if number > max(1, len(self.weights)):
                raise CaptionerError(f"has no weights for {number} {many}; it was edited")
        # Built without values (meta), then given the file's tensors: nothing is initialised in vain.
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
                    f"its weights {name} are {self.weights[name].dtype}, not {parameter.dtype}; "
                    "it was put together wrongly"
                )
            if self.weights[name].shape != parameter.shape:
                raise CaptionerError(
                    f"its weights {name} have shape {tuple(self.weights[name].shape)}, but its "
                    f"configuration and its {len(self.words)} words need {tuple(parameter.shape)}; "
                    "it was put together wrongly"
                )
        weights = {
            name: value.float() if value.is_floating_point() else value
            for name, value in self.weights.items()
            if name in wanted
        }
        model.load_state_dict(weights, assign=True)
        if any(buffer.is_meta for buffer in model.buffers()):
            # What a network computes for itself, such as the filter of anti-aliasing, is in no file.
            model = make(len(self.words))
            model.load_state_dict(weights)
        return model.eval()


class _WithoutValues(TorchFunctionMode):
    """Skips the drawing of first weights, which on the meta device would import torch's compiler."""

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
    """Refuses an ensemble in which an id means one word here and another there.

    Raises:
        CaptionerError: The members' words differ.
    """
    first, *others = members
    for other in others:
        if other.words != first.words:
            raise CaptionerError(
                f"{first.origin} and {other.origin}: their words differ ({len(first.words)} and {len(other.words)}); "
                "an ensemble needs models trained on one vocabulary"
            )


def refuse_another(lightning_checkpoint: Mapping[str, Any], model: Checkpoint) -> None:
    """Refuses to resume a model from a file with other words, where every id would mean something else.

    Args:
        lightning_checkpoint: What Lightning read.
        model: The model to be trained on; its weights do not matter.

    Raises:
        CaptionerError: The file is of another model.
    """
    if METADATA_KEY not in lightning_checkpoint:
        raise CaptionerError("the checkpoint to resume from was not written by captioner train")
    config, words, _ = parse(lightning_checkpoint[METADATA_KEY])
    if words != model.words:
        raise CaptionerError(
            f"the checkpoint to resume from has {len(words)} words, the data's vocabulary "
            f"{len(model.words)}, or in another order; resume with the data and min_count it was trained with"
        )
    if config != model.config:
        raise CaptionerError("the checkpoint to resume from has another configuration of the model; use its own")


@contextmanager
def naming(origin: str) -> Iterator[None]:
    """Says of what is refused where it comes from."""
    try:
        yield
    except CaptionerError as error:
        raise CaptionerError(f"{origin}: {error}") from error
