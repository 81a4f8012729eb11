"""Run a command beside busy processes: ``busy.py 8 COMMAND``.

They belong to the command's own process, and end by themselves as soon as it has, however it does.
"""

import os
import subprocess
import sys

SPIN = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    sum(range(100_000))
"""

if __name__ == "__main__":
    number, command = int(sys.argv[1]), sys.argv[2:]
    for _ in range(number):
        subprocess.Popen([sys.executable, "-c", SPIN, str(os.getpid())])
    os.execvp(command[0], command)  # noqa: S606 - this process becomes the command
