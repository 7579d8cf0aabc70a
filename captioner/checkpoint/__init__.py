"""One file that is all of a captioner: weights, configuration, words, preprocessing, provenance.

The file is safetensors, which holds tensors and text and nothing that can run. Its metadata has one entry,
``captioner``: a JSON object with the keys ``format``, ``config``, ``words`` and ``card``. A file that holds an ensemble
has in place of ``config`` a list ``members`` of them, and each tensor's name begins with its member's place, ``0.``, or
with ``all.`` where all members have the same, such as a CNN that several decoders were trained on.
"""

from captioner.checkpoint.checkpoint import Checkpoint, refuse_another, refuse_other_words
from captioner.checkpoint.load import read, read_members
from captioner.checkpoint.save import write
from captioner.checkpoint.schema import METADATA_KEY

__all__ = ["METADATA_KEY", "Checkpoint", "read", "read_members", "refuse_another", "refuse_other_words", "write"]
