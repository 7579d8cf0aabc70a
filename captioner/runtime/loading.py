"""Which of the two captioners opens a model: the one on torch, or the one on onnxruntime."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from captioner.captioning import BaseCaptioner
from captioner.checkpoint.file_names import ONNX
from captioner.checkpoint.pretrained import FileName, checkpoint_of, names_of
from captioner.errors import CaptionerError, needs_packages

if TYPE_CHECKING:
    import torch

    from captioner.pipeline import Captioner

BACKENDS = ("auto", "torch", "onnx")


@overload
def load(
    path: FileName | Sequence[FileName] | None = ...,
    device: str | torch.device = ...,
    precision: str = ...,
    backend: Literal["auto", "torch"] = ...,
    language: str | None = ...,
) -> Captioner: ...
@overload
def load(
    path: FileName | Sequence[FileName] | None = ...,
    device: str | torch.device = ...,
    precision: str = ...,
    backend: str = ...,
    language: str | None = ...,
) -> BaseCaptioner: ...
def load(
    path: FileName | Sequence[FileName] | None = None,
    device: Any = "cpu",
    precision: str = "float32",
    backend: str = "auto",
    language: str | None = None,
) -> BaseCaptioner:
    """Opens a captioner; the embedded one needs no file and no internet.

    Args:
        path: A checkpoint made by ``captioner train`` or ``captioner export``; ``hf://owner/name``, one on the Hugging
            Face Hub, also with a revision, ``hf://owner/name@revision``, or a file, ``hf://owner/name/FILE``; or
            ``default``, the embedded one, which is the default. Several, trained on the same words, write each caption
            together: an ensemble.
        device: Where it runs, such as ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 for the decoder on CPUs that multiply it faster.
        backend: What computes: ``torch``; ``onnx``, onnxruntime, for the embedded model, ONNX files and
            models on the Hub; ``auto``: onnxruntime for ONNX files and where torch is not installed, else torch.
        language: The captions' language, such as ``de``, whose file is beside the model's: ``photos.de.safetensors``
            beside ``photos.safetensors``. None is the language of the model's own file.

    Returns:
        The captioner. Of arrays it takes the channels as red, green, blue: OpenCV's need ``array[..., ::-1]``.

    Raises:
        CaptionerError: There is no such model, it cannot be read safely, the words of an ensemble differ, there is no
            such device or precision, the backend cannot open it, or it has no captions in this language.
    """
    if backend not in BACKENDS:
        raise CaptionerError(f"backend {backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
    files = [checkpoint_of(name, opens_graphs(backend), language) for name in names_of(path)]
    exported = [file for file in files if Path(file).suffix == ONNX]
    if backend == "torch" and exported:
        raise CaptionerError(f"model {exported[0]}: torch opens no ONNX file; give the checkpoint that it was made of")
    if not exported and not opens_graphs(backend):
        with needs_packages("this model"):
            from captioner import pipeline

            return pipeline.load(files, device, precision)
    return _load_exported(files, str(device), precision)


def opens_graphs(backend: str = "auto") -> bool:
    """Whether a backend opens a model's graphs, where it has them, in place of its checkpoint."""
    return backend == "onnx" or (backend == "auto" and importlib.util.find_spec("torch") is None)


def _load_exported(files: Sequence[FileName], device: str, precision: str) -> BaseCaptioner:
    if len(files) != 1:
        raise CaptionerError(
            f"onnxruntime opens one file at a time, not {len(files)}; export them together, as an ensemble"
        )
    [file] = files
    if Path(file).suffix != ONNX:
        raise CaptionerError(f"model {file}: is no .onnx file, so it needs torch; run pip install 'captioner[train]'")
    if device != "cpu":
        raise CaptionerError(
            f"device {device!r} needs torch and a checkpoint; take cpu, or run pip install 'captioner[train]'"
        )
    if precision not in ("auto", "float32"):
        raise CaptionerError(f"precision {precision!r} needs torch; onnxruntime computes in float32")
    from captioner.runtime.captioner import OnnxCaptioner

    return OnnxCaptioner(file)
