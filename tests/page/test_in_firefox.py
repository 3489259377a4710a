"""The page in Debian's Firefox, driven through its own WebDriver BiDi: it opens, lists and plays."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest

STARTS_S = 60.0
LOOKS_S = 0.2


class Browser:
    """A Firefox without a window."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.said: list[str] = []

    async def ask(self, method: str, **params: Any) -> Any:
        """A command's result; what the console says meanwhile is kept."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async for message in self._socket:
            told = json.loads(message.data)
            if told.get("method") == "log.entryAdded":
                self.said.append(told["params"]["text"])
            elif told.get("id") == self._number:
                assert told["type"] == "success", told
                return told["result"]
        raise AssertionError("Firefox is gone")

    async def value(self, context: str, expression: str) -> Any:
        """What an expression is in the page."""
        found = await self.ask(
            "script.evaluate",
            expression=expression,
            target={"context": context},
            awaitPromise=True,
            userActivation=True,
        )
        assert found["type"] == "success", found
        return found["result"].get("value")

    async def until(self, context: str, expression: str) -> None:
        """Wait for an expression to be true."""
        for _ in range(round(STARTS_S / LOOKS_S)):
            if await self.value(context, expression):
                return
            await asyncio.sleep(LOOKS_S)
        raise AssertionError(f"{expression} in {await self.value(context, 'document.body.innerText')}")


@pytest.fixture(scope="module")
def program() -> str:
    """Debian's Firefox."""
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if found is None:
        pytest.skip("there is no Firefox: apt install firefox-esr")
    return found


async def test_it_opens_and_plays(program: str, out: Path, tmp_path: Path) -> None:
    (tmp_path / "user.js").write_text('user_pref("media.autoplay.default", 0);\n')
    process = await asyncio.create_subprocess_exec(
        program, "--headless", "--no-remote", "--profile", str(tmp_path), "--remote-debugging-port=0",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        address = await asyncio.wait_for(_address(process), STARTS_S)
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}/session") as socket:
            await _try(Browser(socket), (out / "report" / "index.html").as_uri())
    finally:
        process.terminate()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        found = re.search(r"WebDriver BiDi listening on (ws://\S+)", line)
        if found:
            return found[1]
    raise AssertionError("Firefox doesn't start")


async def _try(browser: Browser, page: str) -> None:
    await browser.ask("session.new", capabilities={})
    await browser.ask("session.subscribe", events=["log.entryAdded"])
    context = (await browser.ask("browsingContext.create", type="tab"))["context"]
    await browser.ask("browsingContext.navigate", context=context, url=page, wait="complete")
    await browser.until(context, "Boolean(document.body.dataset.ready)")
    assert await browser.value(context, "document.querySelectorAll('#table tbody tr').length") > 10
    row = "[...document.querySelectorAll('#table tbody .open')].find((each) => each.textContent.includes('meeting'))"
    await browser.value(context, f"{row}.click()")
    await browser.until(context, "document.querySelectorAll('#transcript .at').length > 1")
    await browser.value(context, "document.querySelectorAll('#transcript .at')[1].click()")
    await browser.until(context, "document.getElementById('audio').currentTime > 0.5")
    assert not await browser.value(context, "document.getElementById('audio').error")
    assert browser.said == []
