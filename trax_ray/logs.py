"""Log records of ours: text for people, JSON lines for programs, with the batch, task and attempt that they are about.

Workers log to stderr, one JSON object a line behind a mark; Ray brings what they say to a driver that asked for it, and
there the lines become records again.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trax_ray.errors import SetupError

__all__ = ["FORMATS", "FromWorkers", "log_to_file", "say_what_it_is_about", "set_up_worker"]

FORMATS = ("text", "json")

MARK = "trax_ray-log "
"""What a worker's line begins with that holds a record."""

FIELDS = ("batch", "task", "attempt", "node")

_about: ContextVar[dict[str, Any]] = ContextVar("_about", default={})  # noqa: B039 - it is never changed, only replaced

_OURS = logging.getLogger("trax_ray")
_FROM_WORKERS = logging.getLogger("trax_ray.workers")


def say_what_it_is_about(**fields: Any) -> None:
    """From here on records of this task of asyncio, or of this thread, are about these; of `FIELDS`."""
    _about.set(fields)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record is about: what it says itself, else what was said for all."""
    own = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
    return {**_about.get(), **own}


class TextFormatter(logging.Formatter):
    """`2026-11-26 01:02:03 DEBUG trax_ray.cluster [talks transcribe-0123 2] message`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")
        about = " ".join(str(value) for name, value in _fields(record).items() if name in FIELDS)
        text = f"{at} {record.levelname} {record.name} {f'[{about}] ' if about else ''}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        told = getattr(record, "traceback", None) or (record.exc_info and self.formatException(record.exc_info))
        content = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
            **({"traceback": told} if told else {}),
        }
        return json.dumps(content, ensure_ascii=True)


class _WorkerFormatter(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return MARK + super().format(record)


def set_up_worker(level: str) -> None:
    """Let this process of Ray's log to stderr.

    Args:
        level: Name of the level from which on it does.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_WorkerFormatter())
    _OURS.handlers[:] = [handler]
    _OURS.setLevel(level)
    _OURS.propagate = False


class FromWorkers:
    """What Ray brings of workers, as records of the driver's."""

    def take(self, line: str, who: str) -> None:
        """Log one line.

        Args:
            line: As the worker printed it; one that is no record of ours is logged at DEBUG as it is.
            who: Whose it is, for people.
        """
        content = _record_in(line)
        if content is None:
            _FROM_WORKERS.debug("(%s) %s", who, line)
            return
        logger = logging.getLogger(str(content["logger"]))
        level = logging.getLevelName(content["level"])
        if not isinstance(level, int) or not logger.isEnabledFor(level):
            return
        record = logger.makeRecord(logger.name, level, "", 0, "%s", (content["message"],), None)
        record.created = datetime.fromisoformat(content["time"]).timestamp()
        for name in (*FIELDS, "traceback"):
            if name in content:
                setattr(record, name, content[name])
        logger.handle(record)


def _record_in(line: str) -> dict[str, Any] | None:
    if not line.startswith(MARK):
        return None
    try:
        content = json.loads(line.removeprefix(MARK))
        datetime.fromisoformat(content["time"])
        return {**content, "logger": content["logger"], "level": content["level"], "message": content["message"]}
    except (ValueError, KeyError, TypeError):
        return None


def log_to_file(path: str, form: str) -> None:
    """Put all records of ours, DEBUG included, into a file, after what is there already.

    Args:
        path: The file.
        form: `text` or `json`, one record a line.

    Raises:
        SetupError: It can't be written.
    """
    try:
        handler = logging.FileHandler(Path(path), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SetupError(f"--log-file: can't write {path}: {error.strerror}: give another file") from error
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    _OURS.addHandler(handler)
    _OURS.setLevel(logging.DEBUG)
    for other in logging.getLogger().handlers:
        if isinstance(other, logging.StreamHandler) and other.stream is sys.stderr and other.level == logging.NOTSET:
            other.setLevel(logging.getLogger().level)  # what the terminal shows stays what it was
