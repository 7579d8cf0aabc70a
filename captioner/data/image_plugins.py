"""What Pillow does not do by itself: read HEIC, and keep the messages of a C library off the terminal."""

from __future__ import annotations

import contextlib
import ctypes

from PIL import _imaging


class MissingDecoderError(Exception):
    """A format whose decoder is not installed; the text tells how to install it."""


def register_heic() -> None:
    """Have Pillow read HEIC and HEIF, for the whole process.

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
    """Keep libtiff, which Pillow reads TIFF with, from writing on standard error; what is wrong is raised all the same.

    The library is the one that Pillow is linked with. Where the system does not find its functions through Pillow's own
    module, as on Windows, nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
