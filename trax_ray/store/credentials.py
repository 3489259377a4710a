"""How to reach an object store: credentials and endpoints, from the environment and the usual files alone.

What is found here goes into a client and nowhere else: no argument, journal, report or message holds it.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trax_ray.codes import FailureCode
from trax_ray.errors import SetupError

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

    Client = S3Store | GCSStore | AzureStore

__all__ = ["client_for"]

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_S3_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}
"""Of AWS's files, by the client's names."""

_ELSEWHERE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

_NEEDS_BOTO3 = ("role_arn", "sso_session", "sso_account_id", "sso_start_url", "credential_process", "login_session")

_RETRIES: dict[str, Any] = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""Of one request. What they don't mend is the attempt's failure, and the batch's to retry: a stream of hundreds of
requests can't be begun anew for each of them that a busy store refuses."""

_CLIENT: dict[str, Any] = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}


def client_for(scheme: str, bucket: str, environ: Mapping[str, str] = os.environ) -> Client:
    """A client for a bucket.

    Args:
        scheme: As of `ObjectPath`.
        bucket: As of `ObjectPath`.
        environ: Environment variables. The client looks at those of the process besides.

    Raises:
        SetupError: What is set makes no sense, or can't be used.
    """
    from obstore import store
    from obstore.exceptions import BaseError

    options: dict[str, Any] = {"retry_config": _RETRIES, "client_options": _CLIENT}
    try:
        if scheme == "s3":
            return store.S3Store(bucket, **options | _s3(environ))
        if scheme == "gs":
            return store.GCSStore(bucket, **options)
        container, _, host = bucket.partition("@")
        options |= {"account_name": host.partition(".")[0]} if host else {}
        emulated = environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("1", "true")
        if emulated or _may_be_http(environ.get("AZURE_STORAGE_ENDPOINT", ""), "AZURE", environ):
            options["client_options"] = _CLIENT | {"allow_http": True}
        return store.AzureStore(container, **options)
    except (BaseError, ValueError, OSError) as error:
        # Its text may hold what was set.
        raise SetupError(
            f"{scheme}://{bucket}: the settings of the object store can't be used ({type(error).__name__}): "
            "look at its environment variables and files",
            code=FailureCode.WRONG_STORE,
        ) from None


def _s3(environ: Mapping[str, str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if not environ.get("AWS_ACCESS_KEY_ID"):
        config = _profile(environ)
    if not config.keys() & {"access_key_id", "credential_provider"} and not _finds_others(environ):
        raise SetupError(
            "no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            code=FailureCode.ACCESS_DENIED,
        )
    endpoint = next((environ[name] for name in _ENDPOINTS if environ.get(name)), config.get("endpoint", ""))
    if any(environ.get(name) for name in _ENDPOINTS):
        config.pop("endpoint", None)
    if environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"):
        config.pop("region", None)
    client = _CLIENT | ({"allow_http": True} if _may_be_http(endpoint, "AWS", environ) else {})
    return {**config, "client_options": client}


def _finds_others(environ: Mapping[str, str]) -> bool:
    """Whether the client may find credentials elsewhere: at the machine's own service, unless that is switched off."""
    named = any(environ.get(name) for name in _ELSEWHERE)
    return named or environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"


def _may_be_http(endpoint: str, prefix: str, environ: Mapping[str, str]) -> bool:
    """Whether requests may go unencrypted, as an endpoint asks for.

    Raises:
        SetupError: It asks for it, isn't on this machine, and nobody has allowed it.
    """
    parts = urlsplit(endpoint)
    if parts.scheme != "http":
        return False
    if _is_loopback(parts.hostname or "") or environ.get(f"{prefix}_ALLOW_HTTP", "").lower() in ("1", "true"):
        return True
    raise SetupError(
        f"the endpoint {parts.scheme}://{parts.hostname} isn't encrypted: give one of https, or set "
        f"{prefix}_ALLOW_HTTP=true where you trust the network between",
        code=FailureCode.WRONG_STORE,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _profile(environ: Mapping[str, str]) -> dict[str, Any]:
    """What AWS's files say of the profile in use; empty where there are none."""
    home = Path(environ.get("HOME", "~")).expanduser()
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    files = (
        (environ.get("AWS_CONFIG_FILE") or home / ".aws" / "config", name if name == "default" else f"profile {name}"),
        (environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials", name),
    )
    found: dict[str, str] = {}
    for file, section in files:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            raise SetupError(f"{file} can't be read: correct it", code=FailureCode.WRONG_STORE) from None
        if parser.has_section(section):
            found |= dict(parser.items(section))
    if not found and (environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")):
        raise SetupError(
            f"there is no profile {name!r} in {files[0][0]} or {files[1][0]}: correct AWS_PROFILE",
            code=FailureCode.WRONG_STORE,
        )
    config: dict[str, Any] = {ours: found[theirs] for theirs, ours in _S3_KEYS.items() if found.get(theirs)}
    if "access_key_id" not in config and any(found.get(each) for each in _NEEDS_BOTO3):
        config["credential_provider"] = _by_boto3(name)
    return config


def _by_boto3(profile: str) -> Any:
    try:
        from boto3 import Session
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise SetupError(
            f"the profile {profile!r} takes a role or a login, which needs boto3: run `pip install boto3`, or "
            '`eval "$(aws configure export-credentials --format env)"` in this shell',
            code=FailureCode.NOT_INSTALLED,
        ) from None
    return Boto3CredentialProvider(Session(profile_name=profile))
