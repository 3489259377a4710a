"""The work: what a request is, and the right answer to it, or the service's own refusal."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp.web import BaseRequest

from tests.support.speech_server import checks, hearing
from tests.support.speech_server.answers import Refused, chat_usage, completion, refusal, transcription
from tests.support.speech_server.ledger import Entry
from tests.support.speech_server.models import description, listing
from tests.support.speech_server.scripts import Asked, Script, Transcript
from tests.support.speech_server.wire import Form, Reply

__all__ = ["ChatScript", "Request", "Service", "chat_script"]

logger = logging.getLogger(__name__)

ChatScript: TypeAlias = Callable[[Mapping[str, Any]], "str | Awaitable[str]"]
"""Gets the body of a request, gives what the model says."""


@dataclass(slots=True)
class Request:
    """A request, as far as it was understood.

    Args:
        http: What has come: method, path, headers.
        endpoint: See `Entry.endpoint`.
        body: None where it is longer than the server takes.
        form: The form of a transcription; None where the body is none.
        heard: What is known of the form's file; None without one.
        chat: The body of a chat; empty where it is no JSON object.
    """

    http: BaseRequest
    endpoint: str
    body: bytes | None = None
    form: Form | None = None
    heard: hearing.Heard | None = None
    chat: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """The key that was sent; None without one."""
        kind, _, key = self.http.headers.get("authorization", "").partition(" ")
        return key.strip() or None if kind.lower() == "bearer" else None


class Service:
    """What is behind the door: keys, models, scripts.

    Args:
        script: What is said in uploads.
        chat: What the chat model says.
        key: The key that is accepted; None accepts any, and none.

    Attributes:
        revoked: Keys that are refused whatever `key` says.
        gone: Models that were shut down.
    """

    def __init__(self, script: Script, chat: ChatScript, key: str | None) -> None:
        self._script = script
        self._chat = chat
        self.key = key
        self.revoked: set[str | None] = set()
        self.gone: set[str] = set()
        self._cached: set[bytes] = set()

    async def answer(self, request: Request, entry: Entry, upload_bytes: int) -> Reply:
        """Do the work, and write into the ledger's entry what it cost.

        Args:
            request: The request.
            entry: Its entry.
            upload_bytes: The limit, for the message of who is above it.

        Raises:
            Refused: There is no right answer.
        """
        accepted = () if request.key in self.revoked else None if self.key is None else (self.key,)
        checks.check_key(request.key, accepted, request.endpoint, entry.model)
        if request.body is None:
            raise Refused(checks.too_long(upload_bytes, entry.received_bytes))
        if request.endpoint == "transcriptions":
            return await self._transcribe(request, entry)
        if request.endpoint == "chat":
            return await self._talk(request.body, entry)
        if request.endpoint == "models":
            return self._models(request.http.path.removeprefix("/v1").removeprefix("/models").strip("/"))
        raise Refused(checks.wrong_url(request.http.method, request.http.path))

    def close(self) -> None:
        """End what the script started."""
        close = getattr(self._script, "close", None)
        if close is not None:
            close()

    async def _transcribe(self, request: Request, entry: Entry) -> Reply:
        model, form, file, heard = checks.check_form(request.form, request.heard, self.gone)
        asked = Asked(model.name, form.fields, file, heard.seconds, heard.bands, heard.audio, entry.number)
        said: Transcript | str = await _said(lambda: self._script(asked))
        if isinstance(said, str):
            said = Transcript.spoken(said, heard.seconds)
        entry.recording, entry.start_s = said.recording, said.start_s
        reply, entry.usage = transcription(model, form, said, heard.seconds)
        billed_s = entry.usage.get("seconds", heard.seconds)
        entry.paid, entry.usd = True, billed_s / 60 * model.usd_per_minute
        return reply

    async def _talk(self, body: bytes, entry: Entry) -> Reply:
        model, asked = checks.check_chat(body, self.gone)
        content: str = await _said(lambda: self._chat(asked))
        entry.usage, entry.usd = chat_usage(model, asked, content, self._cached)
        entry.paid = True
        return Reply(payload=completion(model.name, content, "stop", entry.usage, at=int(time.time())))

    def _models(self, name: str) -> Reply:
        found = listing(self.gone)
        if not name:
            return Reply(payload=found)
        if all(model["id"] != name for model in found["data"]):
            raise Refused(refusal(404, f"The model '{name}' does not exist", param="model", code="model_not_found"))
        return Reply(payload=description(name))


def chat_script(chat: ChatScript | Sequence[str] | str | None) -> ChatScript:
    """A script from what may be given as one; see `SpeechServer`."""
    if chat is None:
        return _repeat
    if callable(chat):
        return chat
    left = [chat] if isinstance(chat, str) else list(chat)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def _repeat(body: Mapping[str, Any]) -> str:
    text = str(body["messages"][-1].get("content", ""))
    is_json = (body.get("response_format") or {}).get("type") == "json_object"
    return json.dumps({"text": text}, ensure_ascii=False) if is_json else text


async def _said(script: Callable[[], Any]) -> Any:
    """What a script says.

    Raises:
        Refused: 500 with its error in words, so that a mistake in a script is seen where the answer was expected.
    """
    try:
        said = script()
        return await said if isinstance(said, Awaitable) else said
    except Exception as error:
        logger.exception("the script failed")
        message = f"The script of the speech server failed: {type(error).__name__}: {error}"
        raise Refused(refusal(500, message, kind="server_error")) from error
