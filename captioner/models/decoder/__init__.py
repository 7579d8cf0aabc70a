"""The decoder: a recurrent network that writes a caption word by word, looking at the picture as it goes.

Its parts are chosen by `DecoderConfig`: cells remember, attention looks, a core says in which order they work.
"""

from captioner.models.decoder.config import DecoderConfig
from captioner.models.decoder.decoder import Decoder
from captioner.models.decoder.ensemble import Members, make_decoder, member_prefix, tell_together
from captioner.models.decoder.state import State, Step, TeacherForced

__all__ = [
    "Decoder",
    "DecoderConfig",
    "Members",
    "State",
    "Step",
    "TeacherForced",
    "make_decoder",
    "member_prefix",
    "tell_together",
]
