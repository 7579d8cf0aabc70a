"""The decoder: a recurrent network that writes a caption word by word, looking at the picture as it goes.

Its parts are chosen by `DecoderConfig`: cells remember, attention looks, a core says in which order they work.
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
