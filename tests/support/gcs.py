"""What Ray's head answers to the question who it is, as it was recorded; a server that says so, or something else."""

from __future__ import annotations

import contextlib
import json
import platform
import socket
import threading
from collections.abc import Iterator
from importlib.metadata import version

__all__ = ["answer", "serving"]

SETTINGS = bytes.fromhex("000018040000000000000400400000000500400000000600004000fe0300000001")
HEADERS = bytes.fromhex("000020010400000001") + b"\x88@\x0ccontent-type\x10application/grpc"
TRAILERS = bytes.fromhex("00000f010500000001") + b"@\x0bgrpc-status\x010"


def answer(ray_version: str = "", python_version: str = "") -> bytes:
    """Settings, headers, the versions and the end; this process's versions where none are given."""
    versions = {
        "ray_version": ray_version or version("ray"),
        "python_version": python_version or platform.python_version(),
        "ray_init_cluster": False,
    }
    value = json.dumps(versions).encode()
    message = b"\x0a\x00\x12" + bytes([len(value) | 0x80, 1] if len(value) > 127 else [len(value)]) + value
    data = b"\x00" + len(message).to_bytes(4, "big") + message
    return SETTINGS + HEADERS + len(data).to_bytes(3, "big") + bytes.fromhex("000000000001") + data + TRAILERS


@contextlib.contextmanager
def serving(said: bytes) -> Iterator[str]:
    """A server that says this to everybody and listens no further; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the server was shut down
                while True:
                    connection = connections.enter_context(server.accept()[0])
                    with contextlib.suppress(OSError):  # the other side left before it was told
                        connection.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
