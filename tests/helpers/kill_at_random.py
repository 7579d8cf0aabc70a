"""Runs a command of captioner again and again, killed at random moments, until it ends by itself.

    kill_at_random.py KILLS SHORTEST LONGEST MODULE,… LAST ARGUMENTS…

Kills at most KILLS times, SHORTEST to LONGEST seconds after the start; MODULEs are imported once, before all. Where the
file LAST exists, ``--resume LAST`` is added; ``-`` for none. Prints the number of kills and ends with the exit code of
the command.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time

from captioner.cli import main

kills_wanted, shortest, longest, modules, last, *arguments = sys.argv[1:]
for module in modules.split(","):
    importlib.import_module(module)
random.seed(1)
kills = 0
while True:
    resume = ["--resume", last] if os.path.exists(last) else []
    child = os.fork()
    if child == 0:
        os._exit(main([*arguments, *resume]))
    if kills < int(kills_wanted):
        time.sleep(random.uniform(float(shortest), float(longest)))
        os.kill(child, signal.SIGKILL)
    code = os.waitpid(child, 0)[1]
    if os.WIFEXITED(code):
        break
    kills += 1
print(kills)
sys.exit(os.WEXITSTATUS(code))
