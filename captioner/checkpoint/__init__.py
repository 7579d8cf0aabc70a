"""Checkpoints: one self-contained file with weights, configuration, vocabulary, preprocessing and model card.

The file is safetensors, which holds tensors and text, and no code. Its metadata has one entry, ``captioner``: a JSON
object with the keys ``format``, ``config``, ``words`` and ``card``. An ensemble has a list ``members`` of
configurations instead of ``config``, and the name of each tensor begins with the index of its member, ``0.``, or with
``all.`` if all members share it, such as a CNN that several decoders were trained on.

A file named ``NAME.LANGUAGE.safetensors`` may hold a decoder alone, for the encoder of ``NAME.safetensors`` beside it;
its entry ``encoder`` tells that encoder from others.

Names are imported when first used: where the embedded model is can be asked without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captioner.utils.lazy_names import from_home

if TYPE_CHECKING:
    from captioner.checkpoint.checkpoint import Checkpoint, refuse_another, refuse_other_words
    from captioner.checkpoint.load import matrix_dtype, read, read_members
    from captioner.checkpoint.save import write, write_decoder
    from captioner.checkpoint.schema import METADATA_KEY

__all__ = [
    "METADATA_KEY",
    "Checkpoint",
    "matrix_dtype",
    "read",
    "read_members",
    "refuse_another",
    "refuse_other_words",
    "write",
    "write_decoder",
]

_HOME = {
    "METADATA_KEY": "captioner.checkpoint.schema",
    "Checkpoint": "captioner.checkpoint.checkpoint",
    "matrix_dtype": "captioner.checkpoint.load",
    "read": "captioner.checkpoint.load",
    "read_members": "captioner.checkpoint.load",
    "refuse_another": "captioner.checkpoint.checkpoint",
    "refuse_other_words": "captioner.checkpoint.checkpoint",
    "write": "captioner.checkpoint.save",
    "write_decoder": "captioner.checkpoint.save",
}

__getattr__ = from_home(__name__, _HOME)
