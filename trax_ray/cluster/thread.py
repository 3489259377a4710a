"""The one thread of this process that calls Ray, for as long as the process lives.

Ray notes in each thread which task it works on. A thread that has started Ray once keeps that note beyond
`ray.shutdown`; where another one starts Ray next, both make objects of the same names, and Ray aborts the process.
Ray's daemons are also ended by the kernel when the thread that started them ends, not only when its process does.

Calls wait for one another, so each is to be short: whoever waits for an answer looks for it again and again.

Signals that end programs are blocked in this thread, and what Ray starts inherits that. Whoever ends a batch by a
signal to all of its processes (`timeout`, systemd, Slurm, container runtimes) would end Ray first, and with it the
driver's chance to report and to leave things tidy.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["in_ray", "post_to_ray"]

T = TypeVar("T")

BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _RayThread(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="trax-ray-calls-ray", daemon=True)
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        while True:
            future, call = self._calls.get()
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - whoever asked gets it
                future.set_exception(error)
            del future, call  # what they hold may be an object of Ray's, which is released when nobody holds it

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future


_making = threading.Lock()
_thread: _RayThread | None = None


def in_ray(function: Callable[..., T], *arguments: Any) -> T:
    """Call something in the thread that calls Ray, and give what it gives.

    Args:
        function: It should take no longer than a moment, unless nothing else could be done meanwhile anyway.
        arguments: What it is called with.
    """
    thread = _the_thread()
    if threading.current_thread() is thread:
        return function(*arguments)
    return thread.submit(lambda: function(*arguments)).result()


def post_to_ray(function: Callable[..., Any], *arguments: Any) -> None:
    """Have something called in that thread, and don't wait for it; what it raises is passed over."""
    _the_thread().submit(lambda: function(*arguments))


def _the_thread() -> _RayThread:
    global _thread
    with _making:
        if _thread is None or not _thread.is_alive():  # after a fork it isn't there
            _thread = _RayThread()
            _thread.start()
        return _thread
