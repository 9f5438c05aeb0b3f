"""`python -m tests.support.slow_worker [MODULE]`: a real worker process whose engine is one of the tests."""

import sys

from core.settings import settings_from_env
from tests.support.measured import measure_children
from worker.__main__ import run
from worker.attempt import Stages

if __name__ == "__main__":
    measure_children()
    sys.exit(run(settings_from_env(), Stages(prune=[*sys.argv, "tests.support.slow_engine"][1])))
