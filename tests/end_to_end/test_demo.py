"""The demo as `make demo` runs it, with a tiny model in place of the packaged one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.models import save_tiny
from tests.support.reviews import write_reviews

pytestmark = pytest.mark.timeout(900)


def command(folder: Path) -> list[str]:
    model, data = save_tiny(folder / "model"), write_reviews(folder / "reviews.jsonl")
    options = ["--model", str(model), "--dataset", str(data), "--output", str(folder / "output")]
    return [sys.executable, "-m", "examples.demo", *options]


def test_ctrl_c_stops_everything_that_it_started(tmp_path: Path) -> None:
    # A suite that was started in the background ignores Ctrl-C, and the processes it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = tmp_path / "log"
    with log.open("wb") as output:
        demo = subprocess.Popen(command(tmp_path), stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while "loading" not in log.read_text("utf-8"):
            assert demo.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.1)
        family = psutil.Process(demo.pid).children(recursive=True)
        assert len(family) >= 3, "the service, its worker and the job"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(120) == 130
        assert not [process for process in family if process.is_running()]
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()


@pytest.mark.slow
def test_both_models_are_compared_and_loaded(tmp_path: Path) -> None:
    run = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    for words in (
        "kprune: dense",
        "kprune: pruned",
        "leap: dense",
        "leap: pruned",
        "which prints [{'label':",
    ):
        assert words in run.stdout
    for method in ("kprune", "leap"):
        assert (tmp_path / "output" / method / "model" / "config.json").is_file()
