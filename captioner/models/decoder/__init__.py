"""The decoder: a recurrent network that generates a caption token by token while it attends to the image.

`DecoderConfig` selects its parts: recurrent cells, attention, and a core that defines the order of the two.
"""

from captioner.models.decoder.config import DecoderConfig
from captioner.models.decoder.decoder import Decoder
from captioner.models.decoder.ensemble import MemberDecoders, average_log_probabilities, make_decoder, member_prefix
from captioner.models.decoder.state import State, Step, TeacherForced

__all__ = [
    "Decoder",
    "DecoderConfig",
    "MemberDecoders",
    "State",
    "Step",
    "TeacherForced",
    "average_log_probabilities",
    "make_decoder",
    "member_prefix",
]
