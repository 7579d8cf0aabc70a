"""Entry point of the process."""

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from captioner.utils.signals import EXIT_INTERRUPTED, end_at_once


def run() -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored by the shell
        signal.signal(signal.SIGINT, end_at_once)
    # Imported here, so that Ctrl-C is handled meanwhile.
    from captioner.cli import main
    from captioner.utils.runtime import wait_briefly

    wait_briefly()
    code = main()
    if code == EXIT_INTERRUPTED:
        with suppress(OSError):
            sys.stdout.flush()
        # Python's own exit would wait for threads that are decoding images.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
