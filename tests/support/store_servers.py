"""Object stores on loopback that others wrote: moto (Python), SeaweedFS and rclone (Go), Azurite (Node).

    with moto() as store:
        store.create_bucket("talks")

`make store-servers` installs those that aren't among what the tests need anyway; TRAX_RAY_LIVE says where.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

__all__ = [
    "KEY",
    "StoreServer",
    "azurite",
    "azurite_program",
    "client_of",
    "environment",
    "moto",
    "program",
    "rclone",
    "seaweedfs",
]

KEY = "testing"
"""Access key and secret of all of them."""

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class StoreServer:
    """A store that answers.

    Args:
        url: Its endpoint.
        pid: Its process.
    """

    url: str
    pid: int

    def create_bucket(self, name: str) -> None:
        """Make a bucket and write to it, as soon as the store can: some answer before they can."""
        client = client_of(self.url)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                client.create_bucket(Bucket=name)
                client.put_object(Bucket=name, Key="up", Body=b"up")
                client.delete_object(Bucket=name, Key="up")
                return
            except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                return
            except botocore.exceptions.ClientError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.25)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """An object that another program has written."""
        client_of(self.url).put_object(Bucket=bucket, Key=key, Body=data)

    def get(self, bucket: str, key: str) -> bytes:
        """What another program reads."""
        data: bytes = client_of(self.url).get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Names of all objects."""
        pages = client_of(self.url).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]


def client_of(url: str) -> Any:
    """Amazon's own client, for what isn't ours to do."""
    settings = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, **settings)


def environment(url: str) -> dict[str, str]:
    """What lets trax_ray reach a store."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_REGION": "us-east-1",
    }


def program(name: str) -> str | None:
    """A server's program; None where it isn't installed."""
    live = os.environ.get("TRAX_RAY_LIVE", "")
    found = Path(live, "stores", "bin", name)
    return str(found) if live and found.exists() else shutil.which(name)


@contextmanager
def moto() -> Iterator[StoreServer]:
    """moto's server, which signs nothing and keeps all in memory."""
    port = _free_port()
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as server:
        yield server


@contextmanager
def seaweedfs() -> Iterator[StoreServer]:
    """SeaweedFS, a store that runs in production, on a new folder."""
    weed = program("weed")
    assert weed is not None
    with tempfile.TemporaryDirectory(prefix="weed") as folder:
        keys = [{"accessKey": KEY, "secretKey": KEY}]
        identity = {"name": "test", "credentials": keys, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        Path(folder, "s3.json").write_text(json.dumps({"identities": [identity]}))
        # Each port has one for gRPC beside it, 10,000 higher.
        master, volume, filer, port = (_free_port(below=50_000) for _ in range(4))
        command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += [f"-s3.config={folder}/s3.json", f"-s3.port={port}", f"-master.port={master}"]
        command += [f"-volume.port={volume}", f"-filer.port={filer}", "-master.volumeSizeLimitMB=64"]
        command += ["-volume.max=200", "-master.volumePreallocate=false"]
        command += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        with _running(command, port) as server:
            yield server


@contextmanager
def rclone() -> Iterator[StoreServer]:
    """rclone's server, which overwrites whatever is there: it knows no conditions."""
    found = program("rclone")
    assert found is not None
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="rclone") as folder:
        address = f"127.0.0.1:{port}"
        command = [found, "serve", "s3", "--addr", address, "--auth-key", f"{KEY},{KEY}", folder]
        with _running(command, port) as server:
            yield server


AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite; Microsoft publishes them."""


@contextmanager
def azurite(container: str) -> Iterator[StoreServer]:
    """Azurite, Microsoft's server of Azure's blobs (Node), with a container."""
    found = azurite_program()
    assert found is not None
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="azurite") as folder:
        command = [found, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder]
        with _running([*command, "--silent", "--disableTelemetry", "--skipApiVersionCheck"], port) as server:
            _create_container(server.url, container)
            yield server


def azurite_program() -> str | None:
    """Azurite's program; None where it isn't installed."""
    found = Path(os.environ.get("TRAX_RAY_LIVE", ""), "azurite", "node_modules", ".bin", "azurite-blob")
    return str(found) if os.environ.get("TRAX_RAY_LIVE") and found.exists() else shutil.which("azurite-blob")


def _create_container(url: str, name: str) -> None:
    """Source: Azure Storage, "Authorize with Shared Key"."""
    date = formatdate(usegmt=True)
    resource = f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n{resource}\nrestype:container"
    digest = hmac.new(base64.b64decode(AZURITE_KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(digest).decode()}",
        "Content-Length": "0",
    }
    address = f"{url}/{AZURITE_ACCOUNT}/{name}?restype=container"
    with urllib.request.urlopen(urllib.request.Request(address, method="PUT", headers=headers)):
        pass


@contextmanager
def _running(command: list[str], port: int) -> Iterator[StoreServer]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _wait_for(port, process)
            yield StoreServer(f"http://127.0.0.1:{port}", process.pid)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _free_port(below: int = 65_536) -> int:
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
        if port < below:
            return port
