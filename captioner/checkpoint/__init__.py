"""Checkpoints: one self-contained file with weights, configuration, vocabulary, preprocessing and model card.

The file is safetensors, which holds tensors and text, and no code. Its metadata has one entry, ``captioner``: a JSON
object with the keys ``format``, ``config``, ``words`` and ``card``. An ensemble has a list ``members`` of
configurations instead of ``config``, and the name of each tensor begins with the index of its member, ``0.``, or with
``all.`` if all members share it, such as a CNN that several decoders were trained on.
"""

from captioner.checkpoint.checkpoint import Checkpoint, refuse_another, refuse_other_words
from captioner.checkpoint.load import matrix_dtype, read, read_members
from captioner.checkpoint.save import write
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
]
