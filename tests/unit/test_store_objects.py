"""Object stores: what is read, by how many requests, what becomes of refusals. Against servers that others wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.store_proxy import Faults, StoreProxy
from tests.support.store_servers import KEY, StoreServer
from trax_ray.codes import FailureCode
from trax_ray.errors import FileError, NetworkError, SetupError, StoreError, TraxRayError, UsageError
from trax_ray.media.decode import read
from trax_ray.store import ranged
from trax_ray.store.artifacts import hash_of, unchanged
from trax_ray.store.credentials import client_for
from trax_ray.store.objects import forget_clients, is_denied_alone, list_below, read_object, stat_of, stats_of
from trax_ray.store.ranged import StoredRecording
from trax_ray.store.uris import ObjectPath, is_object_uri

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest, stores: Callable[[str], StoreServer]) -> StoreServer:
    running = stores(request.param)
    running.create_bucket("talks")
    for path in sorted(SAMPLES.rglob("*")):
        if path.is_file():
            running.put("talks", f"in/{path.relative_to(SAMPLES)}", path.read_bytes())
    return running


@pytest.fixture
def proxy(server: StoreServer, reach: Callable[[StoreServer], StoreProxy]) -> StoreProxy:
    return reach(server)


def at(key: str, bucket: str = "talks") -> ObjectPath:
    return ObjectPath("s3", bucket, key)


def test_every_sample_is_the_same_from_a_store_and_from_the_disk(proxy: StoreProxy) -> None:
    for path in ("talks/meeting.mp3", "stories/the_last_train.m4a", "long_pause.ogg", "quiet_room.flac"):
        stored = read(StoredRecording.at(at(f"in/{path}")))
        assert (stored == read(SAMPLES / path)).all(), path


def test_a_recording_costs_a_look_and_a_request_for_each_stretch(proxy: StoreProxy) -> None:
    hashed = hash_of(at("in/talks/meeting.mp3"))
    with unchanged(hashed):
        read(hashed.path)
    assert proxy.methods() == {"HEAD": 1, "GET": 1}  # it is shorter than the first stretch


def test_requests_for_a_long_recording_stay_few_and_no_byte_is_read_twice(
    proxy: StoreProxy, server: StoreServer, tmp_path: Path
) -> None:
    import numpy as np
    import soundfile

    noise = np.random.default_rng(1).normal(0, 0.1, 16_000 * 900)
    long = tmp_path / "long.wav"
    soundfile.write(long, noise, 16_000)
    server.put("talks", "long.wav", long.read_bytes())
    size = long.stat().st_size

    samples = read(StoredRecording.at(at("long.wav")))

    assert len(samples) == 16_000 * 900
    asked = [each for each in proxy.seen if each.method == "GET"]
    assert len(asked) <= 2 + size // ranged.MOST_BYTES + 3
    assert sum(each.bytes_sent for each in asked) <= 1.1 * size


def test_a_part_of_a_long_recording_doesnt_take_all_of_it(
    proxy: StoreProxy, server: StoreServer, tmp_path: Path
) -> None:
    import numpy as np
    import soundfile

    long = tmp_path / "part.wav"
    soundfile.write(long, np.random.default_rng(2).normal(0, 0.1, 16_000 * 900), 16_000)
    server.put("talks", "part.wav", long.read_bytes())

    read(StoredRecording.at(at("part.wav")), start_s=600.0, end_s=610.0)

    assert sum(each.bytes_sent for each in proxy.seen) < long.stat().st_size / 3


def test_a_list_is_one_request_and_an_unknown_name_no_error(proxy: StoreProxy) -> None:
    found = dict(list_below(at("in")))
    assert at("in/talks/meeting.mp3") in found
    assert found[at("in/first_test.wav")].size_bytes == (SAMPLES / "first_test.wav").stat().st_size
    assert proxy.methods() == {"GET": 1}
    assert list(list_below(at("nowhere"))) == []
    stats = stats_of([at("in/first_test.wav"), at("in/nothing.wav")])
    assert stats[at("in/first_test.wav")] == found[at("in/first_test.wav")]
    assert stats[at("in/nothing.wav")] is None


def test_a_recording_that_is_replaced_while_it_is_read_is_found_out(proxy: StoreProxy, server: StoreServer) -> None:
    server.put("talks", "changing.mp3", (SAMPLES / "talks" / "meeting.mp3").read_bytes())
    hashed = hash_of(at("changing.mp3"))
    server.put("talks", "changing.mp3", (SAMPLES / "voices" / "sonnet.mp3").read_bytes())
    with pytest.raises(FileError) as caught, unchanged(hashed):
        read(hashed.path)
    assert (caught.value.code, caught.value.failure_class) == (FailureCode.CHANGED_WHILE_READ, "transient")
    assert hash_of(at("changing.mp3")).content != hashed.content


def test_what_a_recording_is_known_by_stays_where_it_is_written_again(proxy: StoreProxy, server: StoreServer) -> None:
    server.put("talks", "same.mp3", b"1" * 100)
    before = hash_of(at("same.mp3"))
    server.put("talks", "same.mp3", b"1" * 100)
    assert hash_of(at("same.mp3")).content == before.content
    server.put("talks", "copy.mp3", b"1" * 100)
    assert hash_of(at("copy.mp3")).content != before.content


@pytest.mark.parametrize("kind", ["500", "503", "cut", "slow", "lost"])
def test_a_fault_that_passes_is_mended_by_the_client(proxy: StoreProxy, kind: str) -> None:
    proxy.faults = Faults(next_up=[kind, kind])
    data, _ = read_object(at("in/talks/meeting.mp3"))
    assert data == (SAMPLES / "talks" / "meeting.mp3").read_bytes()
    assert proxy.methods()["GET"] <= 3


def test_recordings_are_read_right_where_one_in_five_requests_fails(proxy: StoreProxy) -> None:
    proxy.faults = Faults(rate=0.2, seed=3, slow_s=0.01)
    for path in ("talks/meeting.mp3", "stories/the_last_train.m4a", "stories/the_river.ogg", "quiet_room.flac"):
        assert (read(StoredRecording.at(at(f"in/{path}"))) == read(SAMPLES / path)).all(), path
    assert any(each.fault for each in proxy.seen)


@pytest.mark.parametrize(("status", "code"), [("503", FailureCode.RATE_LIMITED), ("500", FailureCode.SERVER_ERROR)])
def test_a_fault_that_stays_is_transient(
    proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch, status: str, code: FailureCode
) -> None:
    monkeypatch.setattr("trax_ray.store.credentials._RETRIES", {"max_retries": 1})
    forget_clients()
    proxy.faults = Faults(rate=1.0, kinds=(status,))
    with pytest.raises(NetworkError) as caught:
        stat_of(at("in/talks/meeting.mp3"))
    assert (caught.value.code, caught.value.failure_class) == (code, "transient")


def test_a_store_that_nobody_serves_is_transient(proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trax_ray.store.credentials._RETRIES", {"max_retries": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    forget_clients()
    with pytest.raises(NetworkError) as caught:
        stat_of(at("in/talks/meeting.mp3"))
    assert caught.value.code == FailureCode.CONNECTION


def test_a_bucket_that_isnt_there_is_the_configurations_fault_and_an_object_the_inputs(proxy: StoreProxy) -> None:
    for looking_up in (stat_of, read_object, lambda path: list(list_below(path))):
        with pytest.raises(StoreError) as no_bucket:
            looking_up(at("talk.mp3", bucket="nowhere"))
        assert (no_bucket.value.code, no_bucket.value.failure_class) == (FailureCode.NO_SUCH_BUCKET, "config")
    with pytest.raises(FileError) as no_object:
        stat_of(at("in/nothing.mp3"))
    assert (no_object.value.code, no_object.value.failure_class) == (FailureCode.NOT_FOUND, "permanent")


def test_refused_credentials_are_the_configurations_fault_and_no_message_holds_them(
    proxy: StoreProxy, server: StoreServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "moto" in request.node.name:
        pytest.skip("moto takes any credentials")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODYS-KEY-ID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-very-secret-word")
    forget_clients()
    for looking_up in (stat_of, read_object, lambda path: list(list_below(path))):
        with pytest.raises(StoreError) as caught:
            looking_up(at("in/talks/meeting.mp3"))
        assert (caught.value.code, caught.value.failure_class) == (FailureCode.ACCESS_DENIED, "config")
        shown = f"{caught.value!r} {caught.value.__cause__!r}"
        assert "SOMEBODY" not in shown
        assert "secret-word" not in shown
    assert not is_denied_alone(at("in/talks/meeting.mp3"))


def test_an_object_that_is_refused_among_others_is_alone_to_blame(proxy: StoreProxy) -> None:
    assert is_denied_alone(at("in/talks/meeting.mp3"))


# Where it is reached, and with what


def test_credentials_come_from_a_profile_where_the_environment_has_none(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = other\n\n[work]\naws_access_key_id = {KEY}\naws_secret_access_key = {KEY}\n"
    )
    (tmp_path / ".aws" / "config").write_text(
        "[profile work]\nregion = eu-central-1\nendpoint_url = http://127.0.0.1:9\n"
    )
    environ = {"HOME": str(tmp_path), "AWS_PROFILE": "work"}
    config = client_for("s3", "talks", environ).config
    assert config["access_key_id"] == KEY
    assert config["region"] == "eu-central-1"
    assert config["endpoint"] == "http://127.0.0.1:9"
    with pytest.raises(SetupError, match="no profile 'play'"):
        client_for("s3", "talks", {**environ, "AWS_PROFILE": "play"})


def test_a_profile_that_takes_a_role_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = y\n")
    with pytest.raises(SetupError, match="pip install boto3"):
        client_for("s3", "talks", {"HOME": str(tmp_path)})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_requests_go_unencrypted_to_this_machine_alone(host: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    client_for("s3", "talks", {**keys, "AWS_ENDPOINT_URL": f"http://{host}:9000"})
    other = {**keys, "AWS_ENDPOINT_URL": "http://minio.example:9000"}
    with pytest.raises(SetupError, match="AWS_ALLOW_HTTP=true") as caught:
        client_for("s3", "talks", other)
    assert caught.value.code == FailureCode.WRONG_STORE
    client_for("s3", "talks", {**other, "AWS_ALLOW_HTTP": "true"})


# URIs


def test_uris_are_paths() -> None:
    path = ObjectPath.of("S3A://talks/2026/a b.mp3/")
    assert str(path) == "s3://talks/2026/a b.mp3"
    assert (path.name, path.suffix, str(path.parent), str(path.parent.parent)) == (
        "a b.mp3",
        ".mp3",
        "s3://talks/2026",
        "s3://talks/",
    )
    assert path.is_below(path.parent)
    assert path.below(ObjectPath("s3", "talks")) == "2026/a b.mp3"
    assert path.below(path.parent) == "a b.mp3"
    assert not path.is_below(ObjectPath("s3", "talks", "202"))
    assert str(ObjectPath("gs", "talks") / "x") == "gs://talks/x"


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b/a\nb", "s3://b/a\udcff"])
def test_uris_that_make_no_sense_are_refused(uri: str) -> None:
    with pytest.raises(UsageError):
        ObjectPath.of(uri)


def test_only_object_stores_have_such_uris() -> None:
    assert all(map(is_object_uri, ["s3://b/x", "gs://b", "az://c/x", "abfss://c@a.dfs.core.windows.net/x"]))
    assert not any(map(is_object_uri, ["https://b/x", "talk.mp3", "/s3://b", "file:///x", "s3:x"]))


def test_errors_survive_another_process() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(StoreError("x", code=FailureCode.ACCESS_DENIED)))
    assert isinstance(error, TraxRayError)
    assert (error.failure_class, error.code) == ("config", FailureCode.ACCESS_DENIED)
