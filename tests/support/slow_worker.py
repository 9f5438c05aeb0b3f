"""`python -m tests.support.slow_worker`: a real worker process whose engine is the slow one of the tests."""

import sys

from core.settings import settings_from_env
from worker.__main__ import run
from worker.attempt import Stages

if __name__ == "__main__":
    sys.exit(run(settings_from_env(), Stages(prune="tests.support.slow_engine")))
