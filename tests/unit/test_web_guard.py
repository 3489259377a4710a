"""The guard, in processes of their own: it can't be taken away again."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TRY = """
import json, sys
from pathlib import Path
from trax_ray.web.guard import Guard

guard = Guard(Path(sys.argv[1]), allow_private_network=sys.argv[2] == "private")
guard.install()
folder, port = sys.argv[1], int(sys.argv[3])
try:
    exec(sys.argv[4])
    said = "done"
except BaseException as error:
    said = type(error).__name__
print(json.dumps([said, guard.refused]))
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket of this machine: whoever reaches it has got past the guard."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield server


def tried(folder: Path, code: str, listener: socket.socket, how: str = "public") -> tuple[str, list[str]]:
    port = str(listener.getsockname()[1])
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(folder), how, port, code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said, refused = json.loads(done.stdout.splitlines()[-1])
    return said, refused


def reached(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    return True


CONNECTS = {
    "socket": "import socket; socket.create_connection(('127.0.0.1', port), 2)",
    "name": "import socket; socket.create_connection(('localhost', port), 2)",
    "unresolved": "import socket; s = socket.socket(); s.connect(('localhost', port))",
    "short": "import socket; s = socket.socket(); s.connect(('127.1', port))",
    "number": "import socket; socket.create_connection(('2130706433', port), 2)",
    "hexadecimal": "import socket; socket.create_connection(('0x7f000001', port), 2)",
    "octal": "import socket; socket.create_connection(('0177.0.0.1', port), 2)",
    "mapped": "import socket; socket.create_connection(('::ffff:127.0.0.1', port), 2)",
    "connect_ex": "import socket; s = socket.socket(); s.connect_ex(('127.0.0.1', port))",
    "datagram": "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', port))",
    "message": "import socket; s = socket.socket(type=socket.SOCK_DGRAM); "
    "s.sendmsg([b'x'], [], 0, ('127.0.0.1', port))",
    "urllib": "import urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=2)",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', port))",
    "thread": "import socket, threading; "
    "t = threading.Thread(target=socket.create_connection, args=(('127.0.0.1', port), 2)); "
    "t.start(); t.join(); raise OSError",
}


@pytest.mark.parametrize("how", CONNECTS)
def test_this_machine_is_not_reached(tmp_path: Path, listener: socket.socket, how: str) -> None:
    said, refused = tried(tmp_path, CONNECTS[how], listener)
    assert not reached(listener)
    assert said != "done"
    assert how == "asyncio" or refused, "asyncio makes its pipe first, which is refused"


def test_it_may_be_allowed(tmp_path: Path, listener: socket.socket) -> None:
    assert tried(tmp_path, CONNECTS["socket"], listener, "private") == ("done", [])
    assert reached(listener)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect(folder + '/socket')",
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0))",
        "import subprocess; subprocess.run(['true'])",
        "import subprocess; subprocess.run('true', shell=True)",
        "import os; os.system('true')",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.fork() or os._exit(0)",
        "import os; os.execv('/bin/true', ['true'])",
        "import multiprocessing as m; p = m.get_context('spawn').Process(target=print); p.start(); p.join()",
        "import pty; pty.spawn('true')",
        "import curl_cffi",
    ],
)
@pytest.mark.parametrize("how", ["public", "private"])
def test_nothing_else_is_started_or_served(tmp_path: Path, listener: socket.socket, code: str, how: str) -> None:
    said, _ = tried(tmp_path, code, listener, how)
    assert said in ("Refused", "ModuleNotFoundError", "PermissionError")


@pytest.mark.parametrize(
    "code",
    [
        "open(folder + '/../outside', 'w')",
        "open(folder + '/../outside', 'x')",
        "open(folder + '/../outside', 'r+')",
        "import os; os.open(folder + '/../outside', os.O_CREAT | os.O_WRONLY)",
        "import os; os.mkdir(folder + '/../outside')",
        "import os; os.symlink('/etc/hostname', folder + '/link')",
        "import os; os.rename(folder + '/inside', folder + '/../outside')",
        "import os; os.replace(folder + '/inside', folder + '/../outside')",
        "import os; os.link(folder + '/inside', folder + '/../outside')",
        "import os; os.remove(folder + '/../other')",
        "import shutil; shutil.rmtree(folder + '/../others')",
        "import os; os.chdir(folder); open('../outside', 'w')",
        "from pathlib import Path; Path(folder, '..', 'outside').write_text('x')",
    ],
)
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, listener: socket.socket, code: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").write_text("x")
    (tmp_path / "other").write_text("x")
    (tmp_path / "others").mkdir()
    said, _ = tried(folder, code, listener)
    assert said == "Refused"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "other", "others"]


@pytest.mark.parametrize(
    "code",
    [
        "open(folder + '/a', 'w').write('x')",
        "import os; os.mkdir(folder + '/b'); open(folder + '/b/c', 'wb')",
        "import os; os.chdir(folder); open('d', 'w').close(); os.rename('d', 'e'); os.remove('e')",
        "import tempfile; tempfile.TemporaryFile(dir=folder)",
        "open('/dev/null', 'w')",
        "open('/etc/hostname')",
    ],
)
def test_inside_of_it_all_may_be_done(tmp_path: Path, listener: socket.socket, code: str) -> None:
    assert tried(tmp_path, code, listener) == ("done", [])
