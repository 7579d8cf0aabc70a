"""The process: one verb, then its end."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from captioner.cli import main
from captioner.cli.interrupt import EXIT_INTERRUPTED
from captioner.utils.runtime import wait_briefly


def run() -> NoReturn:
    """Runs the verb that the command line names, and ends the process with its exit code."""
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
