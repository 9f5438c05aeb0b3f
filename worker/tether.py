"""`python -m worker.tether PARENT_PID MODULE`: run a module in a process that does not outlive its parent.

Imports nothing heavy, so that the time between the start of the interpreter and the tether is a blink.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent THREAD ends, and leave if that has happened already.

    The parent is compared with the process that spawned us, not with pid 1: under a sub-reaper or inside a
    container the orphan's new parent is somebody else. Where there is no prctl only the check is made.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    module = sys.argv[2]
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
