"""The processes that train with a job's own: started when something is to be trained, ended with the job.

They are peers (`pruning.steps.peer`) that open the same job from the same files and run its training, nothing else. All
that a job says, hears and writes stays in its own process, so that a peer can be killed at any moment.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from pruning.errors import OutOfMemory, PeerLost, PruningError
from pruning.spec import PruneSpec
from pruning.steps.progress import Progress
from pruning.training.group import ALONE, Group, GroupBroken, abort, join, leave

OUT_OF_MEMORY = 3
"""The exit code of a peer whose device has too little memory."""

LEFT_ALONE = 4
"""The exit code of a peer that could not go on because another one was gone."""

_CODE = Path(__file__).resolve().parents[2]
_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 5.0
"""How long to wait for the end of a peer whose connection has ended already."""


@dataclass(frozen=True)
class Inputs:
    """What `prune` was called with, as far as another process needs it to open the same job."""

    spec: PruneSpec
    model_dir: Path
    dataset_dir: Path
    out: Path
    teacher_dir: Path | None

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` is the inverse."""
        folders = {name: value for name, value in vars(self).items() if isinstance(value, Path)}
        named = {name: str(folder.resolve()) for name, folder in folders.items()}
        return {"teacher_dir": None, **named, "spec": self.spec.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Inputs":
        """Read what `to_json` wrote."""
        folders = {name: value and Path(value) for name, value in data.items() if name != "spec"}
        return cls(PruneSpec.model_validate(data["spec"]), **folders)


class Crew:
    """The `devices` processes of a job, of which this one is the first. When the context ends, no peer is left."""

    def __init__(self, inputs: Inputs, device: torch.device, progress: Progress) -> None:
        self.size = inputs.spec.devices
        self._inputs = inputs
        self._device = device
        self._progress = progress
        self._peers: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()
        self._broken = False
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def training(self, name: str) -> Iterator[Group]:
        """While the block does the training called `name`, the peers do it as well; they are started if need be.

        Raises OutOfMemory or PeerLost when a peer has ended.
        """
        if self.size == 1:
            yield ALONE
            return
        with _shared_threads(self.size):
            try:
                if not self._peers:
                    self._start()
                for peer in self._peers:
                    _tell(peer, name)
                group = Group(0, self.size, lambda: not self._broken)
                yield group
                group.check()
            except PruningError:
                raise
            except Exception as error:
                cause = self._cause(error)
                if cause is not None:
                    raise cause from error
                raise

    def _start(self) -> None:
        """Start the peers, wait until all have opened the job, and form a group with them."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="crew-")))
        self._stack.callback(self._end)
        order = {"inputs": self._inputs.to_json(), "threads": torch.get_num_threads()}
        for rank in range(1, self.size):
            command = [sys.executable, "-P", "-m", "pruning.steps.peer", str(rank), str(folder)]
            environment = _environment(rank, self.size, self._device)
            # In this process's own group: one signal reaches all.
            peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, env=environment)  # noqa: S603
            self._peers.append(peer)
            _tell(peer, json.dumps(order))
        while len(list(folder.glob("ready-*"))) < len(self._peers):
            if any(peer.poll() is not None for peer in self._peers):
                raise GroupBroken("A process ended before the group was formed.")
            self._progress.check()
            time.sleep(_LOOK_SECONDS)
        join(0, self.size, self._device, folder)
        self._stack.callback(leave, self._device)
        watcher = threading.Thread(target=self._watch, name="crew", daemon=True)
        watcher.start()
        self._stack.callback(watcher.join)
        self._stack.callback(self._ended.set)

    def _watch(self) -> None:
        """Notice the end of a peer: gloo tells whoever waits for it, on GPUs they would wait for minutes."""
        while not self._ended.wait(_LOOK_SECONDS):
            if any(peer.poll() is not None for peer in self._peers):
                self._broken = True
                abort(self._device)
                return

    def _end(self) -> None:
        for peer in self._peers:
            peer.kill()
        for peer in self._peers:
            peer.wait()
            _input_of(peer).close()

    def _cause(self, error: Exception) -> PruningError | None:
        """What ended a peer, when that is why `error` was raised here."""
        severed = isinstance(error, GroupBroken)
        deadline = time.monotonic() + (_GRACE_SECONDS if severed else 0)
        while not (codes := self._codes()) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        for rank, code in codes.items():
            if code in (-signal.SIGKILL, OUT_OF_MEMORY):
                how = "was killed, most likely because" if code < 0 else "found that"
                message = f"The process that trains on device {rank} {how} the machine ran out of memory."
                return OutOfMemory(message, remedy="Lower batch_size or max_length, or use fewer devices.")
        if not severed:
            return None
        first = next((end for end in codes.items() if end[1] != LEFT_ALONE), None)
        if first is None:
            return PeerLost(f"The connection between the {self.size} devices broke off: {error}")
        rank, code = first
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return PeerLost(f"The process that trains on device {rank} ended unexpectedly by {how}.")

    def _codes(self) -> dict[int, int]:
        """The exit codes of the peers that have ended, by rank."""
        codes = {rank: peer.poll() for rank, peer in enumerate(self._peers, 1)}
        return {rank: code for rank, code in codes.items() if code is not None}


@contextlib.contextmanager
def _shared_threads(size: int) -> Iterator[None]:
    """While the block runs, this process computes with its part of the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // size))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _environment(rank: int, size: int, device: torch.device) -> dict[str, str]:
    """The variables of a peer: those of this process, and on GPUs its own device first, which it will take."""
    path = os.pathsep.join(filter(None, [str(_CODE), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    if device.type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",")[:size] if visible else [str(index) for index in range(size)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[rank:] + devices[:rank])
    return environment


def _tell(peer: "subprocess.Popen[bytes]", line: str) -> None:
    """Write a line. A peer that is gone hears nothing: its exit says so."""
    with contextlib.suppress(BrokenPipeError):
        _input_of(peer).write(line.encode() + b"\n")
        _input_of(peer).flush()


def _input_of(peer: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert peer.stdin is not None  # noqa: S101 - it was started with a pipe
    return peer.stdin
