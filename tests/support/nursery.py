"""A process that has loaded torch and transformers, and forks one for each load check.

A load check starts a fresh interpreter, of which most of the time is spent on imports. Tests of whole jobs let a
nursery fork it: as fresh, without our packages, but loaded. `tests/pruning/delivery/test_load_check.py` and all jobs
that run in workers use the real thing.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PROGRAM = """
import json, os, runpy, sys, traceback
import torch
from transformers import AutoModelForCausalLM, AutoModelForQuestionAnswering, AutoModelForSequenceClassification
from transformers import AutoModelForTokenClassification, AutoTokenizer, BertModel, LlamaModel

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(asked["folder"])
        sys.argv = asked["arguments"]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forked:
    """A process of the nursery, over already, as `subprocess.Popen` would show it."""

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode

    def poll(self) -> int:
        return self.returncode


class Nursery:
    """Starts with the first process that is asked of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str], folder: Path, log: Path) -> Forked:
        """Run a program by its path and arguments in a folder, with its output in `log`."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM],
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": list(arguments), "folder": str(folder), "log": str(log)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End it, if it was started."""
        if self._process is not None:
            self._process.communicate()

    def _environment(self) -> Mapping[str, str]:
        names = ("HOME", "HF_HOME", "HF_MODULES_CACHE")
        return {name: str(self._folder / name) for name in names} | {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
