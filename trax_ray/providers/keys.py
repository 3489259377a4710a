"""Keys of services: from the environment or a file, checked for their form, and never shown.

A key travels from the driver to the coordinator and from there to the processes that make calls, as an argument of
methods: those arguments aren't kept by Ray's GCS, as constructors' are. It is never part of a spec, a task, an event,
an exception or a log line.
"""

from __future__ import annotations

import base64
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from trax_ray.codes import FailureCode
from trax_ray.errors import SetupError, UsageError

__all__ = ["Secret", "check_base_url", "find_key", "scrub"]

_FORM = re.compile(r"[\x21-\x7e]{8,512}")
_LOOKS_LIKE_A_KEY = re.compile(r"\b(sk-|key-|Bearer )[A-Za-z0-9_*.-]{6,}")


class Secret:
    """A key that no traceback, log line or debugger's table shows by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the one who sends it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret isn't pickled: pass what reveal() gives where it is needed, and nowhere else")


def find_key(variable: str) -> Secret | None:
    """The key in an environment variable, or in the file that `VARIABLE_FILE` names.

    Args:
        variable: Such as `OPENAI_API_KEY`.

    Returns:
        The key; None where neither is set.

    Raises:
        SetupError: The file can't be read, or what is there can't be a key. The message doesn't show it.
    """
    value, where = os.environ.get(variable, ""), variable
    path = os.environ.get(f"{variable}_FILE", "")
    if not value and path:
        where = f"the file {path!a} ({variable}_FILE)"
        try:
            value = Path(path).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it isn't text"
            raise SetupError(f"can't read the key from {where}: {reason}", code=FailureCode.NO_KEY) from None
    if not value:
        return None
    if not _FORM.fullmatch(value):
        raise SetupError(
            f"what {where} holds can't be a key: expected 8 to 512 visible ASCII characters, and it has "
            f"{_what_is_wrong(value)}: set it anew",
            code=FailureCode.NO_KEY,
        )
    return Secret(value)


def _what_is_wrong(value: str) -> str:
    if re.search(r"[\r\n]", value):
        return "a line end"
    if re.search(r"\s", value):
        return "a space"
    if not value.isascii() or not value.isprintable():
        return "other characters"
    return f"{len(value)} characters"


def check_base_url(url: str) -> str:
    """A server's address as it may be recorded: it shows in the journal and the report.

    Returns:
        The address without a slash at its end.

    Raises:
        UsageError: It is no http or https address, or holds a password or parameters.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is no number or beyond 65535
        good = False
    if not good:
        raise UsageError(f"--base-url: expected an address such as http://host:8000/v1, got {scrub(url)}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "--base-url holds a user, a password or parameters, and it is written into the journal: "
            "put the secret into OPENAI_API_KEY and leave it out of the address"
        )
    return url.rstrip("/")


@lru_cache(maxsize=8)
def _written(key: str) -> re.Pattern[str]:
    """A key as others write it: as it is, with escapes of URLs, HTML, JSON and mail in it, in hexadecimal, in base64.

    In base64 three bytes are four characters, so a key within a longer text (`Bearer KEY`, `user:KEY`) has one of three
    forms, whose ends depend on what is beside it.
    """
    plain = "".join(_escaped(character) for character in key)
    pairs = [f"{ord(character):02x}" for character in key]
    hexadecimal = r"[\s:,_-]?(?:0x|\\x)?".join(f"(?i:{pair})" for pair in pairs)
    based = []
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + key.encode()).decode().rstrip("=")
        first, last = -(-before * 8 // 6), (before + len(key)) * 8 // 6
        within = re.escape(coded[first:last]).replace(r"\+", "[-+]").replace("/", "[/_]")
        based.append(f"[A-Za-z0-9+/_-]{{0,400}}{within}[A-Za-z0-9+/_-]{{0,400}}=*")
    return re.compile("|".join([plain, hexadecimal, *based]))


def _escaped(character: str) -> str:
    """A character, or an escape for it."""
    code = ord(character)
    forms = [re.escape(character), f"%(?:25)*(?i:{code:02x})", f"&#0*{code};", f"&#[xX]0*(?i:{code:x});"]
    forms += [rf"\\+u00(?i:{code:02x})", rf"\\+x(?i:{code:02x})", f"=(?i:{code:02x})"]
    return f"(?:{'|'.join(forms)})"


def scrub(text: str, *secrets: Secret | None) -> str:
    """Text from outside without keys in it: those that are known, however they are written, and what looks like one.

    Args:
        text: Such as a server's error message, which may repeat what it was sent.
        secrets: Keys that are in use.
    """
    for secret in secrets:
        if secret is not None:
            text = _written(secret.reveal()).sub("***", text)
    return _LOOKS_LIKE_A_KEY.sub(r"\1***", text)
