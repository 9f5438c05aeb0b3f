"""A way to a server that breaks every connection once so many bytes went one way."""

import socket
import threading
from contextlib import suppress

import httpx


class Cutter:
    """Forwards connections on a port of loopback to the server of `url`; `cut_after` counts down, both ways."""

    def __init__(self, url: str) -> None:
        target = httpx.URL(url)
        self._target = (target.host, target.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._left: int | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The same server by way of this one."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, count: int) -> None:
        """Break the connection over which the next `count` bytes were passed on; what follows goes through."""
        with self._lock:
            self._left = count

    def close(self) -> None:
        """Close every connection, and take no further one."""
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self._cuts(len(data)):
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _cuts(self, count: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= count
            if self._left > 0:
                return False
            self._left = None
            self.cuts += 1
            return True
