"""A connection to a server that speaks OpenAI's protocol: one client, and what it means when no answer comes.

The library's own retries are off and redirects aren't followed: they would take the request and the key along. Its
exceptions hold the key and don't cross processes, so none leaves those who use this. What it takes from the environment
isn't obeyed: a batch goes by what it was asked for, the same on all nodes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.providers.keys import Secret, scrub
from trax_ray.providers.openai_refusals import (
    SPEECH_FLAGS,
    Flags,
    is_unreached,
    signal_of,
    was_never_sent,
    wrong_address,
)

if TYPE_CHECKING:
    import openai

__all__ = ["Connection", "Lost"]

CONNECT_TIMEOUT_S = 20.0
READ_CHARACTERS, MESSAGE_CHARACTERS = 10_000, 300
"""Of what a server says: how much is looked at, and how much of that is kept."""

NO_KEY = "none"
"""What servers that want no key are sent, because the library insists on one."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A request without an answer.

    Args:
        failure: Why there is none.
        signal: What that means for the requests that follow, without a price.
        asked: Whether it may have been worked on, and so may be charged for.
    """

    failure: Failure
    signal: ProviderSignal
    asked: bool


class Connection:
    """One server, for many requests at the same time in one event loop.

    Args:
        provider: The provider's name: what is parked where the server can't be asked.
        own_name: What messages call the maker's own server.
        own_url: Its address.
        base_url: The server's address; empty for the maker's own.
        key: The key; None for servers that want none.
        flags: What messages call the options for its address and its model.
    """

    def __init__(
        self,
        provider: str,
        *,
        own_name: str,
        own_url: str,
        base_url: str,
        key: Secret | None,
        flags: Flags = SPEECH_FLAGS,
    ) -> None:
        self.base_url = base_url
        self._provider = provider
        self._own_name = own_name
        self._own_url = own_url
        self._key = key
        self._flags = flags
        self._client: openai.AsyncOpenAI | None = None

    def client(self) -> openai.AsyncOpenAI:
        """The client, made when it is first needed."""
        if self._client is None:
            import httpx2
            import openai

            from trax_ray.providers import bodies

            self._client = openai.AsyncOpenAI(
                api_key=self._key.reveal() if self._key else NO_KEY,
                base_url=self.base_url or self._own_url,
                max_retries=0,
                timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),  # the attempt has a deadline as a whole
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False,
                    headers={"Accept-Encoding": "gzip, deflate"},  # what `bodies` unpacks
                    event_hooks={"response": [bodies.bound]},
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
                ),
            )
            self._client.organization = self._client.project = None
        return self._client

    async def close(self) -> None:
        """Let go of all connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def lost(self, error: Exception, code: FailureCode, began: float) -> Lost:
        """What it means that a request has no answer.

        Args:
            error: What the client raised.
            code: Of the failure, where nothing more exact is seen.
            began: When it was sent, seconds of the monotonic clock.
        """
        from trax_ray.providers.bodies import BodyError

        latency_s = time.monotonic() - began
        cause = error.__cause__ or error
        if isinstance(cause, BodyError):
            message = f"the server's answer can't be used: {self.clean(cause)}"
            failure = Failure(FailureClass.TRANSIENT, Category.PROCESSING, cause.code, message)
            return Lost(failure, self.signal("bad_answer", 200, {}, latency_s, None), asked=True)
        wrong = wrong_address(cause)
        if wrong:
            message = f"{wrong}: {self.clean(cause)}: correct {self._flags.server}, or the server's certificate"
            failure = Failure(
                FailureClass.CONFIG, Category.NETWORK, FailureCode.WRONG_ADDRESS, message, parks=self._provider
            )
        else:
            said = self.clean(cause) or type(cause).__name__
            where = self.base_url or self._own_name
            lost = f"nobody answers at {where}" if is_unreached(cause) else f"the request to {where} was lost"
            failure = Failure(FailureClass.TRANSIENT, Category.NETWORK, code, f"{lost}: {said}")
        signal = self.signal("refused" if wrong else "connection", 0, {}, latency_s, None)
        signal = replace(signal, unreached=not wrong and is_unreached(cause))
        return Lost(failure, signal, asked=not (wrong or was_never_sent(cause)))

    def signal(
        self, kind: str, status: int, headers: Mapping[str, str], latency_s: float, price: float | None
    ) -> ProviderSignal:
        """What an answer means for the requests after it."""
        signal = signal_of(kind, status, headers, latency_s, price)
        return replace(signal, request_id=self.clean(signal.request_id))

    def clean(self, what: object) -> str:
        """What a server or a library says, in one line that isn't too long and shows no key."""
        return scrub(" ".join(str(what)[:READ_CHARACTERS].split()), self._key)[:MESSAGE_CHARACTERS]
