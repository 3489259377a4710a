"""The speech server as a program: prints its address, serves until it is told to end."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.speech_server import faults
from tests.support.speech_server.faults import Fault, Plan
from tests.support.speech_server.limits import Limits
from tests.support.speech_server.scripts import Pocketsphinx, Recordings, Script, constant
from tests.support.speech_server.server import KEY, TEXT, SpeechServer

__all__ = ["FAULTS", "main"]

FAULTS: dict[str, Callable[[], Fault]] = {
    "rate_limited": lambda: faults.rate_limited(retry_after_s=1),
    "insufficient_quota": faults.insufficient_quota,
    "server_error": faults.server_error,
    "unavailable": lambda: faults.server_error(503),
    "key_revoked": faults.key_revoked,
    "model_gone": faults.model_gone,
    "html": faults.html,
    "null": lambda: faults.garbage("null"),
    "broken": lambda: faults.garbage("broken"),
    "truncated": faults.truncated,
    "empty_text": faults.empty_text,
    "missing_fields": faults.missing_fields,
    "hang": faults.hang,
    "dripping": faults.dripping,
    "cut": lambda: faults.cut("body"),
    "lost_answer": faults.lost_answer,
}
"""Faults that the program can be told by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve.

    Args:
        arguments: Of the command line; None takes the process's own.

    Returns:
        The exit status.
    """
    asked = _parser().parse_args(arguments)
    server = SpeechServer(
        _script(asked),
        faults=_plan(asked.fault, asked.seed),
        limits=Limits(
            asked.max_in_flight, asked.per_second, _delay(asked.delay), one_by_one=asked.one_by_one, seed=asked.seed
        ),
        key=asked.key or None,
        decode=not asked.no_decode,
        port=asked.port,
    )
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the thread starts, so that they come to sigwait
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        signal.sigwait(signals)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.support.speech_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for a free one (default)")
    parser.add_argument("--script", choices=("constant", "recordings", "pocketsphinx"), default="constant")
    parser.add_argument("--text", default=TEXT, help="what --script constant says")
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="recordings with their texts beside them")
    parser.add_argument("--key", default=KEY, help="the key that is accepted; empty for any (default: %(default)s)")
    parser.add_argument("--no-decode", action="store_true", help="don't listen to uploads")
    parser.add_argument("--max-in-flight", type=int, metavar="N", help="more at the same time get 429")
    parser.add_argument("--per-second", type=float, metavar="N", help="more in a second get 429")
    parser.add_argument("--delay", default="0", metavar="S[:S]", help="seconds that an answer takes, or two limits")
    parser.add_argument("--one-by-one", action="store_true", help="one request is worked on at a time, the others wait")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME:P", help=f"with probability P: {', '.join(FAULTS)}"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _script(asked: argparse.Namespace) -> Script:
    if asked.script == "pocketsphinx":
        return Pocketsphinx()
    if asked.script == "recordings":
        if asked.recordings is None:
            raise SystemExit("--script recordings needs --recordings DIR")
        return Recordings.of_folder(asked.recordings)
    return constant(asked.text)


def _delay(text: str) -> float | tuple[float, float]:
    low, colon, high = text.partition(":")
    return (float(low), float(high)) if colon else float(low)


def _plan(names: Sequence[str], seed: int) -> Plan | None:
    plans = []
    for number, text in enumerate(names):
        name, _, probability = text.partition(":")
        if name not in FAULTS:
            raise SystemExit(f"no fault is called {name}; there are {', '.join(FAULTS)}")
        plans.append(faults.sometimes(float(probability or 1.0), FAULTS[name](), seed=seed + number))
    return faults.first_of(*plans) if plans else None


if __name__ == "__main__":
    sys.exit(main())
