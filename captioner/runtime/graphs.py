"""The two graphs of an exported captioner, run by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from captioner.checkpoint.file_names import step_file
from captioner.errors import CaptionerError, first_line
from captioner.runtime.description import METADATA_KEY, Description, checksum, identity, parse
from captioner.runtime.names import ATTENTION, CONFIDENCE, LOG_PROBABILITIES, NEXT, WORDS
from captioner.utils.threads import told_threads

IMAGES_AT_ONCE = 4
"""Images that the encoder takes together: the activations of its layers then stay in a CPU's cache."""

State = Mapping[str, np.ndarray]
"""Parts of a state by their names."""


class Encoded(NamedTuple):
    """What the encoder makes of images.

    Attributes:
        state: The state of one hypothesis for each image, before any word.
        confidence: The outputs `CONFIDENCE`, by name; empty for a model that was not calibrated.
    """

    state: State
    confidence: Mapping[str, np.ndarray]


class Step(NamedTuple):
    """The result of one step of the decoder.

    Attributes:
        log_probabilities: Of the next word, float32, shape (images, hypotheses, vocabulary).
        attention: Attention weights, shape (images, hypotheses, cells); None for a model without.
        recurrent: The recurrent part of the next state, arrays of shape (images, hypotheses, …).
    """

    log_probabilities: np.ndarray
    attention: np.ndarray | None
    recurrent: State


class Graphs:
    """An exported captioner's encoder and step.

    Args:
        path: The encoder's file; the step's lies beside it.

    Attributes:
        description: What is to be known beside the graphs.
        files: The graphs' files, and those of their weights where these are in files of their own.
        recurrent: Names of the parts of a state that belong to hypotheses; the others belong to images.

    Raises:
        CaptionerError: There are no such files, they were not written by this project, or they do not belong together.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self._encoder = _session(path)
        self._step = _session(step_file(path))
        metadata = self._encoder.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        ours, others = _identity(path, self._encoder), _identity(step_file(path), self._step)
        if ours != others:
            raise CaptionerError(f"{path} and {step_file(path)} are of different models; export them together")
        try:
            self.description: Description = parse(metadata or "")
        except CaptionerError as error:
            raise CaptionerError(f"model {path}: {error}") from error
        self.files = [path, step_file(path)]
        for name, expected in ours["files"].items():
            self.files.append(path.with_name(name))
            _refuse_other_weights(path, self.files[-1], expected)
        self._outputs = [output.name for output in self._step.get_outputs()]
        self._pixels = [given.name for given in self._encoder.get_inputs()]
        self.recurrent: Sequence[str] = [name.removeprefix(NEXT) for name in self._outputs if name.startswith(NEXT)]

    def encode(self, pixels: Sequence[np.ndarray]) -> Encoded:
        """Encode images.

        Args:
            pixels: uint8 RGB, shape (images, size, size, 3), for each of the description's transforms.
        """
        names = [output.name for output in self._encoder.get_outputs()]
        parts = []
        for begin in range(0, len(pixels[0]), IMAGES_AT_ONCE):
            few = [each[begin : begin + IMAGES_AT_ONCE] for each in pixels]
            parts.append(self._encoder.run(names, dict(zip(self._pixels, few, strict=True))))
        found = {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}
        confidence = {name: found.pop(name) for name in CONFIDENCE if name in found}
        return Encoded(found, confidence)

    def step(self, words: np.ndarray, state: State) -> Step:
        """Advance every hypothesis by one word.

        Args:
            words: Ids, shape (images, hypotheses).
            state: Parts that belong to images, shape (images, …), and to hypotheses, shape (images, hypotheses, …).
        """
        results = dict(zip(self._outputs, self._step.run(self._outputs, {WORDS: words, **state}), strict=True))
        recurrent = {name: results[NEXT + name] for name in self.recurrent}
        return Step(results[LOG_PROBABILITIES], results.get(ATTENTION), recurrent)


def _session(path: Path) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise CaptionerError(f"model {path}: no such file; check the path")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised as well
    # Memory that is kept for the next call grows with the largest one; pages that malloc keeps do as well.
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = told_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # What its C++ raises for a damaged graph, an unknown operator or a missing file of weights shares no base.
    except Exception as error:
        raise CaptionerError(f"model {path}: is no ONNX file that can be run here: {first_line(error)}") from error


def _identity(path: Path, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    try:
        return identity(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY))
    except CaptionerError as error:
        raise CaptionerError(f"model {path}: {error}") from error


def _refuse_other_weights(path: Path, weights: Path, expected: str) -> None:
    """Refuses a checkpoint that is not the one that the graphs point into: its bytes would be read as others."""
    if checksum(weights) != expected:
        raise CaptionerError(f"model {path}: was made of another {weights.name} than lies beside it; export it again")
