"""Networks as ONNX graphs: the encoder, and one step of the decoder."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx_ir
import torch
from onnxscript import optimizer
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from captioner.data.transforms import Transform
from captioner.errors import CaptionerError, first_line
from captioner.export.weights import replace_all
from captioner.models.captioner import CaptionModel, confidence_of
from captioner.models.confidence import concept_log_odds
from captioner.models.decoder import Decoder, State, Step, average_log_probabilities
from captioner.models.decoder.concepts import Candidates
from captioner.models.decoder.ragged import Layout
from captioner.models.decoder.state import KeyValueCache
from captioner.runtime.names import (
    ATTENTION,
    CONFIDENCE,
    LOG_PROBABILITIES,
    NEXT,
    PIXELS,
    WORDS,
)

OPSET = 18
"""Version of the operators (of the domain ``ai.onnx``)."""

_IMAGES, _HYPOTHESES = "images", "hypotheses"
_RECURRENT = ("hidden", "cell")
_CACHE = ("keys", "values", "update")
_CONCEPTS = tuple(f"concept_{name}" for name in Candidates._fields)
_GRID = "grid"


@dataclass(frozen=True)
class Graphs:
    """Both graphs. Their weights are inputs still.

    Attributes:
        encoder: From pixels to the state of one hypothesis for each image, and to what the confidence takes of it.
        step: From words and a state to log-probabilities of the next words, attention and the next state.
        parameters: The parameters and buffers that inputs stand for, by the inputs' names.
        transforms: The preprocessing of each input of pixels, in order.
    """

    encoder: onnx.ModelProto
    step: onnx.ModelProto
    parameters: Mapping[str, Tensor] = field(repr=False)
    transforms: tuple[Transform, ...]


def make_graphs(models: Sequence[CaptionModel]) -> Graphs:
    """Trace networks that write captions together.

    Args:
        models: In evaluation mode, on the CPU, in float32; with the same words.

    Raises:
        CaptionerError: A network does something that ONNX has no operators for.
    """
    encoding = _Encoding(models)
    transforms = tuple(encoding.transforms)
    pixels = [torch.zeros(2, each.size, each.size, 3, dtype=torch.uint8) for each in transforms]
    images = [PIXELS] if len(pixels) == 1 else [f"{PIXELS}_{place}" for place in range(len(pixels))]
    with torch.no_grad():
        states = encoding.start(encoding.encode(*pixels))
        stepping = _Stepping(models, [list(state) for state in states])
        names, shared = stepping.state_names(), [part for state in states for part in state.values()]
        recurrent = [name.startswith(_RECURRENT) for name in names]
        outputs = [*names, *(CONFIDENCE if encoding.confidence else ())]
        axes: dict[str, object] = {PIXELS: ({0: _IMAGES},) * len(pixels)}
        encoder = _trace(encoding, dict(zip(images, pixels, strict=True)), axes, outputs)
        for place, own in enumerate(recurrent):
            shared[place] = shared[place].unsqueeze(1).repeat_interleave(3, 1) if own else shared[place]
        words = torch.ones(2, 3, dtype=torch.long)
        of_hypotheses = {0: _IMAGES, 1: _HYPOTHESES}
        axes = {WORDS: of_hypotheses, "states": tuple(of_hypotheses if own else {0: _IMAGES} for own in recurrent)}
        outputs = [NEXT + name for name, own in zip(names, recurrent, strict=True) if own]
        attends = len(stepping(words, *shared)) > 1 + len(outputs)
        outputs = [LOG_PROBABILITIES, *([ATTENTION] if attends else []), *outputs]
        step = _trace(stepping, {WORDS: words, **dict(zip(names, shared, strict=True))}, axes, outputs)
    _drop_unused_state(encoder, step)
    parameters = dict(encoding.state_dict(keep_vars=True)) | dict(stepping.state_dict(keep_vars=True))
    return Graphs(encoder, step, parameters, transforms)


class _Encoding(nn.Module):
    """From pixels to the state of one hypothesis for each image; networks with the same encoder share it."""

    def __init__(self, models: Sequence[CaptionModel]) -> None:
        super().__init__()
        self.transforms = list(dict.fromkeys(model.config.transform for model in models))
        self.distinct: list[CaptionModel] = []  # a model for each distinct encoder
        self.grid_of: list[int] = []  # and which of these each decoder's grid is of
        for model in models:
            same = (place for place, other in enumerate(self.distinct) if other.encodes_as(model))
            place = next(same, len(self.distinct))
            if place == len(self.distinct):
                self.distinct.append(model)
            self.grid_of += [place] * len(model.decoder.members)
        self.encoders = nn.ModuleList(model.encoder for model in self.distinct)
        self.decoders = nn.ModuleList(decoder for model in models for decoder in model.decoder.members)
        self.confidence = confidence_of(models)

    def encode(self, *pixels: Tensor) -> list[Tensor]:
        """The grid of each distinct encoder.

        Args:
            *pixels: uint8 RGB, shape (images, size, size, 3), for each of the transforms.
        """
        grids = []
        for model in self.distinct:
            transform = model.config.transform
            images = transform.normalize(pixels[self.transforms.index(transform)].permute(0, 3, 1, 2))
            grids.append(model.encoder.encode_at_once(images))
        return grids

    def start(self, grids: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """The initial state of each decoder, part by part, and its grid."""
        states = []
        for decoder, place in zip(self.decoders, self.grid_of, strict=True):
            assert isinstance(decoder, Decoder)
            start = decoder.start(grids[place])
            recurrent = dict(zip(_RECURRENT, start.recurrent, strict=False))
            cache = {name: part for name, part in zip(_CACHE, start.cache[:3], strict=True) if part is not None}
            concepts = dict(zip(_CONCEPTS, start.cache.concepts or (), strict=False))
            states.append({**recurrent, **cache, **concepts, _GRID: grids[place]})
        return states

    def forward(self, *pixels: Tensor) -> tuple[Tensor, ...]:
        """The parts of all states in a row, then `CONFIDENCE` if there is one."""
        grids = self.encode(*pixels)
        # An output of a graph has one name, so that the grid of several decoders needs a copy for each.
        parts = tuple(part.clone() for state in self.start(grids) for part in state.values())
        if self.confidence is None:
            return parts
        of_pictures = self.confidence.of_pictures(grids[0].mean(dim=1))
        return (*parts, *of_pictures, concept_log_odds(self.distinct[0].decoder, grids[0]))


class _Stepping(nn.Module):
    """A word of each hypothesis and the state in; log-probabilities, attention and the next state out.

    Args:
        models: The networks.
        parts: Names of the parts of each decoder's state.
    """

    def __init__(self, models: Sequence[CaptionModel], parts: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(decoder for model in models for decoder in model.decoder.members)
        self.parts = parts

    def state_names(self) -> list[str]:
        """Names of the parts of all states in a row."""
        ends = [""] if len(self.parts) == 1 else [f"_{place}" for place in range(len(self.parts))]
        return [name + end for names, end in zip(self.parts, ends, strict=True) for name in names]

    def forward(self, words: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Advance equally many hypotheses of each image by a word, as an ensemble of decoders does.

        Args:
            words: Ids, shape (images, hypotheses).
            *states: Parts of the states; those of the recurrent layers have the shape (images, hypotheses, …).
        """
        remaining = iter(states)
        steps: list[Step] = []
        for decoder, names in zip(self.decoders, self.parts, strict=True):
            assert isinstance(decoder, Decoder)
            part = {name: next(remaining) for name in names}
            recurrent = tuple(part[name].flatten(0, 1) for name in _RECURRENT if name in part)
            concepts = Candidates(*(part[name] for name in _CONCEPTS)) if _CONCEPTS[0] in part else None
            cache = KeyValueCache(**{name: part.get(name) for name in _CACHE}, concepts=concepts)
            state = State(recurrent, cache, Layout(words.shape[0]))
            steps.append(decoder.step(words.flatten(), state, part[_GRID]))
        log_probabilities, attention = average_log_probabilities(steps)
        results = (log_probabilities,) if attention is None else (log_probabilities, attention)
        flat = (*results, *(part for step in steps for part in step.state.recurrent))
        return tuple(each.unflatten(0, (words.shape[0], words.shape[1])) for each in flat)


def _trace(
    module: nn.Module, inputs: Mapping[str, Tensor], axes: Mapping[str, object], outputs: Sequence[str]
) -> onnx.ModelProto:
    """A graph of a module's forward, with weights as inputs beside its own.

    Args:
        module: The module.
        inputs: Examples of what it is given, by their names in the graph.
        axes: For each parameter of its forward the names of axes whose lengths are free.
        outputs: Names of what it returns.

    Raises:
        CaptionerError: ONNX has no operators for it.
    """
    free = {name: torch.export.Dim(name, min=1) for name in (_IMAGES, _HYPOTHESES)}
    shapes = tree_map(lambda name: free[name], dict(axes))
    try:
        with _quietly():
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise CaptionerError(
            f"the network has no ONNX form ({first_line(error)}); caption with torch, or choose another encoder"
        ) from error
    assert program is not None
    model, weights = program.model, module.state_dict()
    for name in [name for name in model.graph.initializers if name in weights]:
        # Without values nothing is folded or fused that is to be kept as the checkpoint has it.
        weight = model.graph.initializers.pop(name)
        weight.const_value = None
        model.graph.inputs.append(weight)
    optimizer.optimize_ir(model)
    return onnx_ir.to_proto(model)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps the exporter's hints to its own developers from users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _drop_unused_state(encoder: onnx.ModelProto, step: onnx.ModelProto) -> None:
    """Leaves out of both graphs the parts of the state that a step does not use."""
    used = {name for node in step.graph.node for name in node.input}
    unused = [value.name for value in step.graph.input if value.name not in used]
    for values in (step.graph.input, encoder.graph.output):
        replace_all(values, [value for value in values if value.name not in unused])
    _drop_unused_nodes(encoder)


def _drop_unused_nodes(model: onnx.ModelProto) -> None:
    graph, needed = model.graph, {value.name for value in model.graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    replace_all(graph.node, reversed(kept))
    for values in (graph.initializer, graph.input):
        replace_all(values, [value for value in values if value.name in needed])
