"""A speech service for tests and for trying things: OpenAI's audio endpoints and DeepSeek's chat on loopback.

    from tests.support.speech_server import Limits, Recordings, SpeechServer, constant, faults

    with SpeechServer(constant("hello"), faults=[faults.rate_limited(retry_after_s=1)]) as server:
        client = openai.OpenAI(base_url=server.url, api_key=server.key, max_retries=0)
        ...
    assert not server.ledger.paid_again()

It reads real uploads on a real socket, decodes them, refuses what the services refuse, in their words, and answers
in their forms, model by model. What goes wrong, and for which request, is ordered (`faults`); how much it takes too
(`Limits`). The ledger has every request: what was sent, what was completed, what was paid.

As a program: `python -m tests.support.speech_server --script pocketsphinx`; GET /_ledger gives the ledger as JSON.

What it doesn't do: stream, translate, tell speakers apart by their voices, or read `prompt` and `temperature`.
"""

from __future__ import annotations

from tests.support.speech_server import faults
from tests.support.speech_server.faults import Call, Fault, Plan
from tests.support.speech_server.ledger import Entry, Ledger, Sums, fingerprint_of_key
from tests.support.speech_server.limits import Limits
from tests.support.speech_server.scripts import Asked, Pocketsphinx, Recordings, Script, Transcript, constant
from tests.support.speech_server.server import KEY, SpeechServer
from tests.support.speech_server.service import ChatScript

__all__ = [
    "KEY",
    "Asked",
    "Call",
    "ChatScript",
    "Entry",
    "Fault",
    "Ledger",
    "Limits",
    "Plan",
    "Pocketsphinx",
    "Recordings",
    "Script",
    "SpeechServer",
    "Sums",
    "Transcript",
    "constant",
    "faults",
    "fingerprint_of_key",
]
