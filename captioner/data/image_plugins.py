"""Extensions of Pillow: a HEIC decoder, and a filter of a C library's messages."""

from __future__ import annotations

import contextlib
import ctypes

from PIL import _imaging


class MissingDecoderError(Exception):
    """A format whose decoder is not installed; the message says how to install it."""


def register_heic() -> None:
    """Register the decoder of HEIC and HEIF with Pillow, for the whole process.

    Raises:
        MissingDecoderError: The decoder, an extra of this package, is not installed.
    """
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        raise MissingDecoderError(
            "is HEIC, for which there is no decoder here; install one with pip install 'captioner[heic]', or convert "
            "it to JPEG or PNG"
        ) from None
    register_heif_opener()


def silence_libtiff() -> None:
    """Keep Pillow's libtiff from writing to standard error; errors are still raised.

    No effect where the library's functions are not accessible through Pillow's module, as on Windows.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
