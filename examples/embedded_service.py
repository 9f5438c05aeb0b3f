"""Start `prunery serve` for the length of a `with` block, and stop it whatever happens inside."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client import PruneryClient

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


@contextmanager
def embedded_service(data_dir: Path, log: Path) -> Iterator[PruneryClient]:
    """A client of a service of its own on a free port; what the service says goes to `log`.

    Raises RuntimeError with the end of the log when the service does not start.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cli", "serve", "--port", "0", "--data-dir", str(data_dir)]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal reaches this process only, which then stops it.
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        url = _address(process, log)
        key = (data_dir / "api-key").read_text("ascii").strip()
        with PruneryClient(url, key) as client:
            client.version()
            yield client
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # The worker asked the kernel to die with its parent, so this one signal ends both.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        text = log.read_text("utf-8", errors="replace")
        if match := re.search(r"listens on (http://\S+)\n(?s:.*)Data in ", text):
            return match[1]
        time.sleep(0.1)
    raise RuntimeError(f"the service did not start; {log} ends with: {log.read_text('utf-8')[-500:]}")
