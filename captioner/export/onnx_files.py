"""A captioner as two ONNX files, with all that captioning needs beside the graphs in their metadata.

``NAME.onnx`` is the encoder and holds the description; ``NAME.step.onnx`` is one step of the decoder. No well-kept
runtime searches inside a graph: whoever uses them calls the first once for an image, and the second for each word.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from captioner import __version__, checkpoint
from captioner.checkpoint.file_names import step_file
from captioner.checkpoint.load import files_of
from captioner.errors import CaptionerError
from captioner.export.graphs import Graphs, make_graphs
from captioner.export.weights import StoredWeights, Weight, fill_in
from captioner.models.captioner import CaptionModel, attention_grid, confidence_of
from captioner.models.confidence import concept_words
from captioner.runtime.description import METADATA_KEY, FittedConfidence, checksum, format_of
from captioner.utils.files import replacing


def write_onnx(path: str | os.PathLike[str], source: str | os.PathLike[str], external: bool = False) -> None:
    """Writes a checkpoint's captioner as ONNX, both files or none.

    Args:
        path: The file of the encoder; that of the step is named after it (`step_file`).
        source: A safetensors checkpoint of this project, of one model or of an ensemble. Its weights are kept in the
            type that it has them in.
        external: Whether the graphs point to the checkpoint's weights in place of copies; it has to stay beside them,
            unchanged.

    Raises:
        CaptionerError: The checkpoint cannot be read or lies elsewhere, the network has no ONNX form, or the files
            cannot be written.
    """
    path, source = Path(path), Path(source)
    if external and path.resolve().parent != source.resolve().parent:
        raise CaptionerError(f"{path}: would point to {source}, which is not in its folder; write it beside that")
    members = checkpoint.read_members(source)
    models = [member.build()[0] for member in members]
    graphs = make_graphs(models)
    description = _describe(members, models, graphs)
    kept_in = files_of(source)
    others = {"others": {file.name: checksum(file) for file in kept_in[1:]}} if kept_in[1:] else {}
    pointer = {"weights": source.name, **others} if external else {}
    identity: dict[str, Any] = {"format": format_of(description), "checkpoint": checksum(source), **pointer}
    parts = {path: (graphs.encoder, identity | description), step_file(path): (graphs.step, identity)}
    weights = _stored(StoredWeights(kept_in), models, graphs)
    with contextlib.ExitStack() as files:
        for file, (graph, metadata) in parts.items():
            fill_in(graph, weights, external)
            _tidy(graph, metadata)
            temporary = files.enter_context(replacing(file))
            onnx.save(graph, str(temporary))
            onnx.checker.check_model(str(temporary), full_check=True)


def _stored(stored: StoredWeights, models: Sequence[CaptionModel], graphs: Graphs) -> dict[str, Weight]:
    """Where the checkpoint has what the graphs' inputs stand for."""
    origin = {
        id(value): (place, name)
        for place, model in enumerate(models)
        for name, value in model.state_dict(keep_vars=True).items()
    }
    owned = {name: origin[id(value)] for name, value in graphs.parameters.items() if id(value) in origin}
    return {name: stored.find(place, key) for name, (place, key) in owned.items()}


def _describe(members: list[checkpoint.Checkpoint], models: list[CaptionModel], graphs: Graphs) -> dict[str, Any]:
    """What is to be known beside the graphs, in plain JSON values."""
    weights = {id(value): value for member in members for value in member.weights.values()}.values()
    return {
        "models": [asdict(model.config) for model in models],
        "inputs": [asdict(transform) for transform in graphs.transforms],
        "grid": attention_grid(models),
        "parameters": sum(value.numel() for value in weights if value.is_floating_point()),
        "words": members[0].words,
        **({} if members[0].tokenizer is None else {"tokenizer": members[0].tokenizer.facts()}),
        "confidence": _describe_confidence(models),
        "card": dict(members[0].card),
    }


def _describe_confidence(models: Sequence[CaptionModel]) -> dict[str, Any] | None:
    confidence = confidence_of(models)
    if confidence is None:
        return None
    weights, things = confidence.of_features.tolist(), confidence.things.tolist()
    return FittedConfidence(tuple(weights), tuple(things), tuple(concept_words(models[0].decoder))).facts()


def _tidy(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    """Leaves out what the exporter noted for its own developers, and notes what the graph is."""
    graph = model.graph
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:], model.functions[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    model.producer_name, model.producer_version = "captioner", __version__
    graph.name, graph.doc_string, model.doc_string = "captioner", "", ""
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(metadata))
