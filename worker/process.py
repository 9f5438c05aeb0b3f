"""One spawned interpreter in its own process group, and the three pipes that lead to it."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from worker.channel import Receiver, encode

TAIL_BYTES = 4000
"""How much of a child's last words on stderr is kept."""


class ChildProcess:
    """A fresh interpreter that runs one module; never a bare fork: the worker has threads and open connections.

    It leads its own session, so a signal to the worker's group does not reach it and one kill reaches all that
    it started. The thread that constructs it must be the one that supervises it: the child asks the kernel to
    be killed when its parent THREAD ends (`worker.tether`). `hear` gets all that it writes to stderr.
    """

    def __init__(
        self,
        module: str,
        *,
        environment: Mapping[str, str],
        folder: Path,
        hear: Callable[[bytes], None] = lambda chunk: None,
    ) -> None:
        command = [sys.executable, "-P", "-m", "worker.tether", str(os.getpid()), module]
        self._process = subprocess.Popen(  # noqa: S603 - modules of our own
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
        self._downward, upward, self._stderr = _pipes(self._process)
        self._receiver = Receiver(upward.fileno())
        self._tail = b""
        self._hear = hear
        os.set_blocking(self._stderr.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(upward, selectors.EVENT_READ)
        self._selector.register(self._stderr, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """The child's process id, which is also the id of its group."""
        return self._process.pid

    @property
    def stderr_tail(self) -> str:
        """The last words of the child, at most `TAIL_BYTES` bytes of them."""
        return self._tail.decode(errors="replace").strip()

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message down. A child that is gone hears nothing: its exit says so."""
        with contextlib.suppress(BrokenPipeError):
            self._downward.write(encode(message))
            self._downward.flush()

    def receive(self, timeout: float) -> list[dict[str, Any]]:
        """The messages of the next `timeout` seconds, returning at the first ones. Raises BrokenChannel."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._stderr:
                self._read_stderr()
        messages = self._receiver.read()
        if self._receiver.ended:
            self._leave_upward()
        return messages

    def exited(self) -> bool:
        """Whether the child is dead. Until `close` it stays a zombie, so its group id cannot be reused."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def kill(self) -> None:
        """SIGKILL to the whole group: the child and everything that it started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> int:
        """End what is left of the group, reap the child and return its exit code (-N: killed by signal N)."""
        self.kill()
        code = self._process.wait()
        self._read_stderr()
        self._selector.close()
        for pipe in _pipes(self._process):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code

    def _leave_upward(self) -> None:
        """Stop watching a pipe whose end was seen: it would be readable for ever."""
        upward = self._process.stdout
        if upward is not None and upward in self._selector.get_map():
            self._selector.unregister(upward)

    def _read_stderr(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._stderr.fileno(), 1 << 16):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                self._hear(chunk)
            if self._stderr in self._selector.get_map():
                self._selector.unregister(self._stderr)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Stdin, stdout and stderr of a process that was started with pipes for all three."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ValueError("the process was started without its three pipes")
    return process.stdin, process.stdout, process.stderr
