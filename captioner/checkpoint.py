"""One file that is all of a captioner: weights, configuration, words, preprocessing, provenance.

The file is safetensors, which holds tensors and text and nothing that can run. Its metadata has one entry,
``captioner``: a JSON object with the keys ``format``, ``config``, ``words`` and ``card``. A file that holds an ensemble
has in place of ``config`` a list ``members`` of them, and each tensor's name begins with its member's place, ``0.``, or
with ``all.`` where all members have the same, such as a CNN that several decoders were trained on.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captioner.atomic import replacing
from captioner.decoder import DecoderConfig
from captioner.errors import CaptionerError, first_line
from captioner.images import Transform
from captioner.language.model import LanguageConfig, LanguageModel
from captioner.model import CaptionerConfig, CaptionModel
from captioner.quantisation import STEPS, dequantise, quantise
from captioner.vocabulary import Vocabulary

FORMAT = 1
"""Raised when an older version of this project could no longer read what is written."""
ENSEMBLE_FORMAT = 2
"""What a file with several models says, which version 1 cannot read."""

METADATA_KEY = "captioner"
LIGHTNING_PREFIX = "model."
"""What the parameters of the `CaptionModel` are called by inside a Lightning checkpoint."""

_ALL = "all"
"""What stands in place of a member's place before the name of a tensor that all members have."""

_LARGEST = 2**24
"""Bound of all numbers in a configuration: sizes beyond it belong to no network."""

_SHOWN = 40
"""Characters of a wrong value that a message repeats."""

_ZIP_MAGIC = b"PK\x03\x04"

Config: TypeAlias = CaptionerConfig | LanguageConfig
DataclassT = TypeVar("DataclassT")
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
        with _naming(self.origin):
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
        with _naming(self.origin):
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
        if self.config.decoder.layers > max(1, len(self.weights)):
            raise CaptionerError(f"has no weights for {self.config.decoder.layers} layers; it was edited")
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


def write(path: str | os.PathLike[str], *members: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: The file.
        *members: Its content; several with the same words are an ensemble, which has the card of the first.
        dtype: Precision of matrices and kernels; int8 rounds each row to multiples of a step of its own
            (`quantisation`). Vectors (biases, batch statistics) stay float32: they are small, and batch variances leave
            the range of float16.

    Raises:
        CaptionerError: The file cannot be written, or the members' words differ.
    """
    refuse_other_words(members)
    first, *others = members
    named = first.weights
    header = first.header()
    if others:
        shared = {name for name in first.weights if all(_same(name, first, other) for other in others)}
        named = {f"{_ALL}.{name}": first.weights[name] for name in shared}
        for place, member in enumerate(members):
            named |= {f"{place}.{name}": value for name, value in member.weights.items() if name not in shared}
        content = {key: value for key, value in json.loads(header).items() if key != "config"}
        configs = [asdict(each.config) for each in members]
        header = json.dumps({**content, "format": ENSEMBLE_FORMAT, "members": configs})
    weights = {}
    for name, value in named.items():
        if not value.is_floating_point() or value.ndim < 2:
            weights[name] = value
        elif dtype == torch.int8:
            weights[name], weights[name + STEPS] = quantise(value)
        else:
            weights[name] = value.to(dtype)
    weights = {name: value.contiguous().cpu() for name, value in weights.items()}
    with replacing(path) as temporary:
        try:
            save_file(weights, temporary, {METADATA_KEY: header})
        except SafetensorError as error:  # of a failed write it keeps the reason as text alone
            raise OSError(None, str(error)) from error


def _same(name: str, one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two models have the same tensor, in whatever type each keeps it."""
    left, right = one.weights[name], other.weights.get(name)
    return right is not None and left.shape == right.shape and bool((left == right).all())


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


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads the one model of a checkpoint, as `read_members` does.

    Raises:
        CaptionerError: As there, or there are several.
    """
    first, *others = read_members(path)
    if others:
        raise CaptionerError(f"checkpoint {path}: is an ensemble of {1 + len(others)} models; give a file of one")
    return first


def read_members(path: str | os.PathLike[str]) -> list[Checkpoint]:
    """Reads a checkpoint of this project or one that Lightning wrote while training; nothing in it is run.

    Returns:
        Its model, or those of its ensemble, in order.

    Raises:
        CaptionerError: There is no such file, or it is no checkpoint that can be read safely.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        weights, header = _read_lightning(path) if is_zip else _read_safetensors(path)
    except FileNotFoundError:
        raise CaptionerError(f"checkpoint {path}: no such file; check the path") from None
    except OSError as error:
        raise CaptionerError(f"checkpoint {path}: cannot be read: {error.strerror or error}") from error
    if header is None:
        raise CaptionerError(f"checkpoint {path}: was not written by captioner; give a file made by captioner train")
    origin = f"checkpoint {path}"
    with _naming(origin):
        configs, words, card = _parse(header)
        weights = dequantise(weights)
    if not isinstance(configs, list):
        return [Checkpoint(configs, words, weights, card, origin)]
    owners: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        owner, _, rest = name.partition(".")
        owners.setdefault(owner, {})[rest] = value
    members = []
    for place, config in enumerate(configs):
        own = owners.get(_ALL, {}) | owners.get(str(place), {})
        members.append(Checkpoint(config, words, own, card, f"{origin}, model {1 + place} of {len(configs)}"))
    return members


@contextmanager
def _naming(origin: str) -> Iterator[None]:
    """Says of what is refused where it comes from."""
    try:
        yield
    except CaptionerError as error:
        raise CaptionerError(f"{origin}: {error}") from error


def _parse(header: str) -> tuple[Config | list[Config], tuple[str, ...], dict[str, Any]]:
    """Configuration, or those of an ensemble, words and card of a header."""
    try:
        content = json.loads(header)
        found = content["format"]
        if found not in (FORMAT, ENSEMBLE_FORMAT):
            raise CaptionerError(
                f"has format {found!r}, this version reads {FORMAT} and {ENSEMBLE_FORMAT}; install a matching captioner"
            )
        one = found == FORMAT
        config = _config(content["config"]) if one else [_config(each) for each in content["members"]]
        words, card = content["words"], content["card"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CaptionerError(f"its header lacks or misstates {error}; it cannot be used") from error
    if not config:
        raise CaptionerError("is an ensemble of no models; it was put together wrongly")
    if not isinstance(card, dict):
        raise CaptionerError("its card is no JSON object; it was put together wrongly")
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise CaptionerError("its words are no list of text; it was put together wrongly")
    return config, tuple(words), card


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(METADATA_KEY)
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no dict)
    # Headers can name types, shapes and places that end in errors of several kinds.
    except Exception as error:
        raise CaptionerError(
            f"checkpoint {path}: is no safetensors file or was cut ({first_line(error)}); "
            "give one made by captioner train"
        ) from error


def _read_lightning(path: Path) -> tuple[dict[str, Tensor], str | None]:
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        header = content.get(METADATA_KEY)
        state = content["state_dict"]
        weights = {name.removeprefix(LIGHTNING_PREFIX): value for name, value in state.items()}
    # The restricted unpickler runs nothing, but a damaged or hostile file makes it raise nearly anything.
    except Exception as error:
        raise CaptionerError(
            f"checkpoint {path}: was not written by captioner, or is damaged, or would run code; it was not opened"
        ) from error
    if not all(isinstance(value, Tensor) for value in weights.values()) or not isinstance(header, (str, type(None))):
        raise CaptionerError(f"checkpoint {path}: holds other things than tensors; it cannot be used")
    for name, value in weights.items():
        # A view can repeat one value a billion times.
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CaptionerError(f"checkpoint {path}: its weights {name} are not all there; it cannot be used")
    return weights, header


def _refuse_bomb(path: Path) -> None:
    """Lightning's files are zip archives without compression; one that would grow as it is read is another's."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CaptionerError(
            f"checkpoint {path}: is damaged or was cut ({first_line(error)}); get a whole copy"
        ) from error
    if size > path.stat().st_size:
        raise CaptionerError(f"checkpoint {path}: would grow to {size:,} bytes; it was not opened")


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
    old, new = json.loads(lightning_checkpoint[METADATA_KEY]), json.loads(model.header())
    if old["words"] != new["words"]:
        raise CaptionerError(
            f"the checkpoint to resume from has {len(old['words'])} words, the data's vocabulary "
            f"{len(new['words'])}, or in another order; resume with the data and min_count it was trained with"
        )
    if old["config"] != new["config"]:
        raise CaptionerError("the checkpoint to resume from has another configuration of the model; use its own")


def _config(values: Mapping[str, Any]) -> Config:
    if "unit" in values:
        return _from_dict(LanguageConfig, {**values, "decoder": _from_dict(DecoderConfig, values["decoder"])})
    transform = {k: tuple(v) if isinstance(v, list) else v for k, v in values["transform"].items()}
    parts = {
        "decoder": _from_dict(DecoderConfig, values["decoder"]),
        "transform": _from_dict(Transform, transform),
    }
    return _from_dict(CaptionerConfig, {**values, **parts})


def _from_dict(cls: type[DataclassT], values: Mapping[str, Any]) -> DataclassT:
    """Builds a dataclass; a field that this version does not know cannot be honoured, so it is refused."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise CaptionerError(f"its configuration has {unknown[0]!r}, unknown here; update captioner")
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    missing = sorted(required - set(values))
    if missing:
        raise CaptionerError(f"its configuration lacks {missing[0]!r}; it was cut or edited")
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise CaptionerError(
                f"its configuration has {name!r} = {str(value)[:_SHOWN]!r}, of a wrong type or size; it was edited"
            )
    return cls(**values)


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401 (a type as annotations have it)
    """Whether a value from JSON is of an annotated type and of a size that makes sense."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return any(value == known for known in arguments)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if arguments:
        return any(_fits(value, each) for each in arguments)
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return isinstance(value, hint)
