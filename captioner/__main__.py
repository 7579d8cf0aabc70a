"""The process: one verb, then its end."""

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from captioner.utils.signals import EXIT_INTERRUPTED, end_at_once


def run() -> NoReturn:
    """Runs the verb that the command line names, and ends the process with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored by the shell
        signal.signal(signal.SIGINT, end_at_once)
    # Only now, so that Ctrl-C is answered meanwhile.
    from captioner.cli import main
    from captioner.utils.runtime import wait_briefly

    wait_briefly()
    code = main()
    if code == EXIT_INTERRUPTED:
        with suppress(OSError):
            sys.stdout.flush()
        # Python's own end would wait for the photographs that threads are decoding, however long one takes.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
