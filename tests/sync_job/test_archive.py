"""The archive of states: what is kept, what is refused, what goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import shop
from aws import REGION, Aws, run_aws
from builders import client, credential, flag, payload, rule, state

from flagedge.errors import SettingsError
from flagedge.wire.state_pb2 import ClientResolverState, ResolverState
from sync_job.archive import Archive
from sync_job.archive_store import ArchiveError, open_store
from sync_job.compile import compile_plan
from sync_job.decode import decode_state

STATE = decode_state(shop.shop_payload())
ETAG = '"weird/\u00e9tag"'
NOW = datetime.now(UTC)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """With one empty bucket, called states."""
    with run_aws(monkeypatch) as aws:
        aws.client("s3").create_bucket(Bucket="states", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield aws


@pytest.fixture(params=["folder", "s3"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """One in a folder, and one in S3."""
    if request.param == "folder":
        where = str(tmp_path / "archive")
    else:
        request.getfixturevalue("aws")
        where = "s3://states/some/prefix"
    return open_at(where)


def open_at(where: str) -> Archive:
    store = open_store(where, below=("account", "worker"), suffix=".state")
    assert store is not None
    return Archive(store)


def test_an_archived_state_is_the_state(archive: Archive) -> None:
    """It compiles to the very same plan, and knows which one was live before it."""
    archive.put(STATE, etag=ETAG, previous_etag='"before"')
    found = archive.load(ETAG)
    assert (found.etag, found.previous_etag) == (ETAG, '"before"')
    assert compile_plan(found.decoded, etag=ETAG) == compile_plan(STATE, etag=ETAG)
    assert [entry.etag for entry in archive.list_entries()] == [ETAG]


def test_no_secret_is_kept(tmp_path: Path) -> None:
    """Neither one that is known, nor one in a field of clients or of the state that this version does not know."""
    envelope = ClientResolverState.FromString(
        payload(state(flag("f", rule("r")), clients=[client()], credentials=[credential(secret="known-secret")]))
    )
    strange = b"\xfa\x01\x0dfuture-secret"  # field 31
    inner = ResolverState.FromString(envelope.state)
    inner.client_credentials[0].MergeFromString(strange)
    inner.clients[0].MergeFromString(strange)
    inner.MergeFromString(strange)
    envelope.state = inner.SerializeToString()
    archive = open_at(str(tmp_path))
    archive.put(decode_state(envelope.SerializeToString()), etag="e", previous_etag="")
    kept = archive.load("e").decoded.resolver_state.SerializeToString()
    assert b"secret" not in kept.replace(b"client_secret", b"")
    [file] = tmp_path.rglob("*.state")
    assert file.stat().st_mode & 0o077 == 0


def test_what_this_version_does_not_know_of_flags_is_kept(tmp_path: Path) -> None:
    """It may decide something, so the check of a state has to see it again."""
    inner = state(flag("f", rule("r")))
    inner.flags[0].MergeFromString(b"\xfa\x01\x06future")
    archive = open_at(str(tmp_path))
    archive.put(decode_state(payload(inner)), etag="e", previous_etag="")
    assert b"future" in archive.load("e").decoded.resolver_state.SerializeToString()


def test_what_is_missing_is_named_with_what_is_there(archive: Archive) -> None:
    """An operator who mistypes an entity tag sees the right ones."""
    archive.put(STATE, etag="there", previous_etag="")
    with pytest.raises(ArchiveError, match=r"has no state missing\. The latest are there"):
        archive.load("missing")


@pytest.mark.parametrize("at", [0, 30, 64, 70, 90, -1], ids=str)
def test_a_damaged_entry_is_refused(archive: Archive, at: int) -> None:
    """One bit anywhere is enough, also one in what is said of the state."""
    archive.put(STATE, etag="e", previous_etag="p")
    data = bytearray(archive.store.read("e") or b"")
    data[at] ^= 1
    archive.store.write("e", bytes(data))
    with pytest.raises(ArchiveError, match="holds state e, but it is damaged"):
        archive.load("e")


@pytest.mark.parametrize("length", [0, 10, 64, 65, 100])
def test_half_an_entry_is_refused(archive: Archive, length: int) -> None:
    """Wherever it was cut off."""
    archive.put(STATE, etag="e", previous_etag="p")
    archive.store.write("e", (archive.store.read("e") or b"")[:length])
    with pytest.raises(ArchiveError, match="damaged"):
        archive.load("e")


def test_an_entry_under_another_name_is_refused(archive: Archive) -> None:
    """Somebody who copies files about does not make one state pass for another."""
    archive.put(STATE, etag="one", previous_etag="")
    archive.store.write("two", archive.store.read("one") or b"")
    with pytest.raises(ArchiveError, match="damaged"):
        archive.load("two")


def test_retention_counts_from_when_a_state_was_superseded(tmp_path: Path) -> None:
    """A state that was live for a year is kept when it goes, and what is live is kept however old it is."""
    archive = open_at(str(tmp_path))
    for etag, age_days in {"a": 900, "b": 800, "c": 700, "d": 10, "e": 1}.items():
        archive.put(STATE, etag=etag, previous_etag="")
        [file] = tmp_path.rglob(f"{etag}.state")
        at_s = (NOW - timedelta(days=age_days)).timestamp()
        os.utime(file, (at_s, at_s))
    assert archive.prune(keep=["a"], now=NOW, retention=timedelta(days=30)) == 1
    assert [entry.etag for entry in archive.list_entries()] == ["e", "d", "c", "a"]


def test_pruning_deletes_from_both_kinds(archive: Archive) -> None:
    """What was superseded long ago goes, but for what is to be kept."""
    for etag in ("a", "b"):
        archive.put(STATE, etag=etag, previous_etag="")
    assert archive.prune(keep=["a", "b"], now=NOW + timedelta(days=9), retention=timedelta(days=1)) == 0
    [_, oldest] = archive.list_entries()
    assert archive.prune(keep=[], now=NOW + timedelta(days=9), retention=timedelta(days=1)) == 1
    assert oldest.etag not in [entry.etag for entry in archive.list_entries()]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """Reading and writing fail alike, with the way out."""
    (tmp_path / "file").write_text("")
    archive = open_at(str(tmp_path / "file"))
    for use in (archive.list_entries, lambda: archive.put(STATE, etag="e", previous_etag="")):
        with pytest.raises(ArchiveError, match="cannot be used"):
            use()


def test_half_written_files_are_no_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves what was there, and nothing beside it."""
    archive = open_at(str(tmp_path))
    archive.put(STATE, etag="e", previous_etag="kept")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ArchiveError, match="No space left"):
        archive.put(STATE, etag="e", previous_etag="new")
    monkeypatch.undo()
    assert archive.load("e").previous_etag == "kept"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_bucket_that_is_not_there(aws: Aws) -> None:
    """The error names the archive, the answer and what to allow."""
    assert aws.operations == []
    with pytest.raises(ArchiveError, match=r"s3://absent/p.*NoSuchBucket.*s3:GetObject"):
        open_at("s3://absent/p").load("e")


@pytest.mark.parametrize("status", [0, 403, 500])
def test_s3_that_fails(aws: Aws, status: int) -> None:
    """Whatever fails, it is an error of ours that names the archive."""
    archive = open_at("s3://states/p")
    for operation, use in {
        "GET": lambda: archive.load("e"),
        "PUT": lambda: archive.put(STATE, etag="e", previous_etag=""),
        "DELETE": lambda: archive.store.delete("e"),
    }.items():
        aws.break_calls(operation, times=3, status=status, code="Broken")
        with pytest.raises(ArchiveError, match="s3://states/p"):
            use()
        aws.breaks.clear()


def test_without_boto3_s3_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(ArchiveError, match=r"flagedge\[aws\]"):
        open_at("s3://states/p").load("e")


@pytest.mark.parametrize("where", ["s3://", "s3:///p", "gs://b/p", "file:", "//host/p", "s3://b:1/p"])
def test_a_place_that_is_none(where: str) -> None:
    """It is told before anything is done."""
    with pytest.raises(SettingsError, match=r"an archive .*, which .* is not"):
        open_store(where)


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the home directory; nothing where that cannot be written to, as on AWS Lambda, or is switched off."""
    monkeypatch.setenv("HOME", str(tmp_path))
    default = open_store("")
    assert default is not None
    assert default.where == str(tmp_path / ".local/state/flagedge/states")
    monkeypatch.setenv("HOME", "/nowhere")
    assert open_store("") is None
    assert open_store("off") is open_store("OFF") is None
