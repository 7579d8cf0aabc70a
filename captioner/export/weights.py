"""Weights in a graph, in the types that a checkpoint keeps them in; they become float32 when the graph is loaded.

ONNX can name a part of another file as a tensor's numbers, and a safetensors file is such parts one after another: a
graph may hold its weights, or point to the checkpoint's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from captioner.checkpoint.quantization import STEPS
from captioner.checkpoint.schema import ALL
from captioner.errors import CaptionerError

_LENGTH_BYTES = 8
"""At the start of a safetensors file: how long its header is."""

_TYPES = {
    "F64": TensorProto.DOUBLE,
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "I64": TensorProto.INT64,
    "I8": TensorProto.INT8,
    "U8": TensorProto.UINT8,
}


@dataclass(frozen=True)
class Stored:
    """A tensor in a checkpoint's file.

    Attributes:
        file: The safetensors file.
        kind: ONNX's number of its type.
        shape: Its shape.
        begin: Of its first byte in the file.
        length: In bytes.
    """

    file: Path
    kind: int
    shape: tuple[int, ...]
    begin: int
    length: int

    def tensor(self, name: str, external: bool) -> TensorProto:
        """The tensor with its numbers, or with the place where they are."""
        tensor = TensorProto(name=name, data_type=self.kind, dims=self.shape)
        if external and self.length:
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", self.file.name), ("offset", self.begin), ("length", self.length)):
                tensor.external_data.add(key=key, value=str(value))
        else:
            tensor.raw_data = np.memmap(self.file, np.uint8, "r")[self.begin : self.begin + self.length].tobytes()
        return tensor


class Weight(NamedTuple):
    """A model's tensor in a checkpoint.

    Attributes:
        name: In the file.
        stored: As it is kept.
        steps: The steps of its rows, where it is kept as int8.
    """

    name: str
    stored: Stored
    steps: Stored | None


class StoredWeights:
    """The tensors of a checkpoint, where they lie; an ensemble's too, and a decoder's in a file beside its encoder's.

    Args:
        paths: Safetensors files of this project, which have been read before; of a name in several, the first has it.

    Raises:
        CaptionerError: It is of another format, or has a type that ONNX lacks.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [_tensors_in(path) for path in paths]

    def find(self, model: int, name: str) -> Weight:
        """A tensor of one of the models, by its name in the state dict."""
        names = (name, f"{model}.{name}", f"{ALL}.{name}")
        known, tensors = next((n, tensors) for tensors in self._files for n in names if n in tensors)
        return Weight(known, tensors[known], tensors.get(known + STEPS))


def _tensors_in(path: Path) -> dict[str, Stored]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header: dict[str, Any] = json.loads(file.read(size))
        header.pop("__metadata__", None)
        return {name: _stored(path, entry, _LENGTH_BYTES + size) for name, entry in header.items()}
    except (ValueError, KeyError, OverflowError) as error:
        raise CaptionerError(f"checkpoint {path}: is no safetensors file; export it to one first") from error


def _stored(path: Path, entry: Mapping[str, Any], data: int) -> Stored:
    begin, end = entry["data_offsets"]
    return Stored(path, _TYPES[entry["dtype"]], tuple(entry["shape"]), data + begin, end - begin)


def fill_in(graph: onnx.ModelProto, weights: Mapping[str, Weight], external: bool) -> None:
    """Gives a graph's weights their numbers.

    Args:
        graph: Its weights are inputs; afterwards they are none.
        weights: What each of these inputs is in the checkpoint, by the inputs' names.
        external: Whether to point to the checkpoint's file, in place of a copy.
    """
    given = [value for value in graph.graph.input if value.name in weights]
    own = [value for value in graph.graph.input if value.name not in weights]
    # Two inputs may be one weight, such as that of a CNN that models share.
    wanted = {weights[value.name]: value.type.tensor_type.elem_type for value in given}
    nodes: list[onnx.NodeProto] = []
    for weight, kind in wanted.items():
        tensors, reading = _read_as(weight, kind, external)
        graph.graph.initializer.extend(tensors)
        nodes += reading
    names = {value.name: weights[value.name].name for value in given}
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    replace_all(graph.graph.input, own)
    replace_all(graph.graph.node, [*nodes, *graph.graph.node])


def _read_as(weight: Weight, kind: int, external: bool) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    """A weight as it is kept, and the nodes that make of it what the graph computes with."""
    name, stored, steps = weight
    if steps is None and stored.kind == kind:
        return [stored.tensor(name, external)], []
    kept = f"{name}:kept"
    tensor = stored.tensor(kept, external)
    if steps is None:
        return [tensor], [helper.make_node("Cast", [kept], [name], to=kind)]
    multiples, column, by_row = f"{name}:multiples", f"{name}:column", f"{name}:by_row"
    shape = [-1] + [1] * (len(stored.shape) - 1)
    return [
        tensor,
        steps.tensor(name + STEPS, external),
        helper.make_tensor(column, TensorProto.INT64, [len(shape)], shape),
    ], [
        helper.make_node("Cast", [kept], [multiples], to=kind),
        helper.make_node("Reshape", [name + STEPS, column], [by_row]),
        helper.make_node("Mul", [multiples, by_row], [name]),
    ]


def replace_all(field: Any, content: Iterable[Any]) -> None:  # noqa: ANN401 (a repeated field of a protobuf message)
    """Replace what a repeated field of a message holds."""
    content = list(content)
    del field[:]
    field.extend(content)
