"""What a speech server received, completed and was paid for: one entry per request, and sums by audio.

*Completed* means: answered with 200, the socket took every byte of it, and the client was still there. *Paid* means:
the work was done, so that a real service would bill it, whether or not the answer arrived. What is paid and not
completed is the money that lost answers cost.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Entry", "Ledger", "Sums", "fingerprint_of_key"]


def fingerprint_of_key(key: str | None) -> str | None:
    """How the ledger names a key: the first 12 digits of its SHA-256. None for none."""
    return None if key is None else hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:12]


@dataclass(slots=True)
class Entry:
    """One request.

    Args:
        endpoint: `transcriptions`, `chat`, `models` or `unknown`.
        number: Counted from 1 for each endpoint.
        path: As requested.
        at: When its head had come, UTC.
        key: Fingerprint of the key, never the key; None where none was sent.
        model: As asked for.
        file_name: Of the upload.
        audio: A name for what is heard in the upload. The same for another encoding of it, a trimmed one too, where
            the server decodes; for the same bytes only where it doesn't.
        audio_s: Its duration in seconds.
        recording: The registered recording in which it was found.
        start_s: Where in that recording it begins, seconds.
        received_bytes: Of the request's body.
        fields: The form without its file; for chat the body without its messages.
        messages: Of a chat, as they came.
        fault: Name of the fault that was ordered for it.
        status: As sent; None where none was, or as long as none is.
        code: The `code` of the error that it was answered with.
        request_id: The answer's `x-request-id`.
        usage: As answered.
        completed: See above.
        paid: See above.
        usd: What was paid.
        ended_at: When it was over, UTC; None while it is in flight.
    """

    endpoint: str
    number: int
    path: str
    at: datetime
    key: str | None = None
    model: str | None = None
    file_name: str | None = None
    audio: str | None = None
    audio_s: float = 0.0
    recording: str | None = None
    start_s: float | None = None
    received_bytes: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    fault: str | None = None
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    usage: dict[str, Any] | None = None
    completed: bool = False
    paid: bool = False
    usd: float = 0.0
    ended_at: datetime | None = None


@dataclass(slots=True)
class Sums:
    """Counts and sums over entries.

    Args:
        received: Requests.
        completed: Those that were completed.
        paid: Those that were paid.
        usd: What was paid for them.
        audio_s: Seconds of audio that were paid.
    """

    received: int = 0
    completed: int = 0
    paid: int = 0
    usd: float = 0.0
    audio_s: float = 0.0

    def add(self, entry: Entry) -> None:
        """Count one more."""
        self.received += 1
        self.completed += entry.completed
        self.paid += entry.paid
        self.usd += entry.usd
        self.audio_s += entry.audio_s if entry.paid else 0.0


class Ledger:
    """All requests so far, in the order in which they came. `SpeechServer.ledger` is a copy that no longer changes.

    Attributes:
        entries: The requests.
        in_flight: Requests whose head has come and which aren't over.
        max_in_flight: The most at the same time.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self._numbers: dict[str, int] = {}

    def open(self, endpoint: str, path: str, at: datetime) -> Entry:
        """Begin an entry; it is in flight."""
        number = self._numbers[endpoint] = self._numbers.get(endpoint, 0) + 1
        entry = Entry(endpoint, number, path, at)
        self.entries.append(entry)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return entry

    def close(self, entry: Entry, at: datetime) -> None:
        """End an entry; safe to repeat."""
        if entry.ended_at is None:
            entry.ended_at = at
            self.in_flight -= 1

    def clear(self) -> None:
        """Forget what is over. Numbers go on."""
        self.entries = [entry for entry in self.entries if entry.ended_at is None]
        self.max_in_flight = self.in_flight

    def of(self, endpoint: str) -> list[Entry]:
        """The entries of one endpoint."""
        return [entry for entry in self.entries if entry.endpoint == endpoint]

    @property
    def sums(self) -> Sums:
        """Over all entries."""
        return self._sums(lambda _: "all").get("all", Sums())

    @property
    def by_audio(self) -> dict[str, Sums]:
        """By what was heard; uploads of which nothing is known aren't in it."""
        return self._sums(lambda entry: entry.audio)

    def paid_again(self) -> dict[str, int]:
        """What was paid for more than once: how often, by audio. Not empty means that money was thrown away."""
        return {audio: sums.paid for audio, sums in self.by_audio.items() if sums.paid > 1}

    def snapshot(self) -> Ledger:
        """A copy that doesn't change with this one."""
        taken = Ledger()
        taken.entries = [copy.copy(entry) for entry in self.entries]
        taken.in_flight, taken.max_in_flight = self.in_flight, self.max_in_flight
        taken._numbers = dict(self._numbers)
        return taken

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        return {
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "sums": asdict(self.sums),
            "by_audio": {audio: asdict(sums) for audio, sums in self.by_audio.items()},
            "entries": [_plain(entry) for entry in self.entries],
        }

    def _sums(self, name: Callable[[Entry], str | None]) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        for entry in self.entries:
            group = name(entry)
            if group is not None:
                found.setdefault(group, Sums()).add(entry)
        return found


def _plain(entry: Entry) -> dict[str, Any]:
    found = asdict(entry)
    for name in ("at", "ended_at"):
        found[name] = found[name].isoformat() if found[name] else None
    return found
