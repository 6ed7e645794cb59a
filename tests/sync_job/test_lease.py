"""One writer at a time: leases on files between processes, leases in S3 against moto over HTTP."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from aws import Aws, run_aws

from flagedge.errors import ApiError, DecodeError, LocalError, SettingsError, UnavailableError
from sync_job.lease import Lease, LeaseHeldError, LeaseLostError
from sync_job.lease_places import open_lease

KEY = "leases/worker.json"
WHERE = f"s3://bucket/{KEY}"
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
# Takes the lease when told to and says how that went; keeps it until told to let go.
RIVAL = """
import sys
from sync_job.lease import LeaseHeldError
from sync_job.lease_places import open_lease
lease = open_lease(sys.argv[1], "worker")
for line in sys.stdin:
    try:
        with lease:
            print("won", flush=True)
            sys.stdin.readline()
        print("left", flush=True)
    except LeaseHeldError as exc:
        print("held", exc, flush=True)
"""


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    time: datetime = START

    def __call__(self) -> datetime:
        return self.time

    def pass_s(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Rival:
    """Another process that wants the same lease."""

    def __init__(self, where: str) -> None:
        command = [sys.executable, "-c", RIVAL, where]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, word: str) -> None:
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """Kill -9, whatever it holds."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def rivals(where: str, count: int = 1) -> Iterator[list[Rival]]:
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            started.append(Rival(where))
            stack.callback(started[-1].kill)
        yield started


def fight(where: str, rounds: int) -> list[list[str]]:
    """How two processes fared that wanted the lease at the same moment; the winner of each round lets go."""
    outcomes = []
    with rivals(where, 2) as both:
        for _ in range(rounds):
            for rival in both:
                rival.say("take")
            answers = [rival.hear() for rival in both]
            outcomes.append(sorted(answer.split()[0] for answer in answers))
            for rival, answer in zip(both, answers, strict=True):
                if answer == "won":
                    rival.say("let go")
                    assert rival.hear() == "left"
    return outcomes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/worker.lock"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with run_aws(monkeypatch) as aws:
        aws.client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield aws


def s3_lease(clock: Clock, holder: str = "this run", **options: Any) -> Lease:
    return open_lease(WHERE, "worker", holder=holder, now=clock, **options)


def stored(aws: Aws) -> dict[str, str] | None:
    """The lease as it lies in the bucket."""
    client = aws.client("s3")
    if not client.list_objects_v2(Bucket="bucket")["KeyCount"]:
        return None
    return json.loads(client.get_object(Bucket="bucket", Key=KEY)["Body"].read())


def put(aws: Aws, body: bytes) -> None:
    aws.client("s3").put_object(Bucket="bucket", Key=KEY, Body=body)


# -- where a lease may be --


@pytest.mark.parametrize("where", ["s3://", "s3://bucket", "s3://bucket/folder/", "s3:bucket/key", "s3:///key"])
def test_a_place_in_s3_needs_bucket_and_key(where: str) -> None:
    """Half an address is a wrong setting."""
    with pytest.raises(SettingsError, match="s3://BUCKET/KEY"):
        open_lease(where, "worker")


@pytest.mark.parametrize("where", ["file:", "gs://bucket/key", "file://host/path", "https://host"])
def test_other_places_are_refused(where: str) -> None:
    """No other scheme is taken for a path."""
    with pytest.raises(SettingsError, match=r"which .* is not"):
        open_lease(where, "worker")


@pytest.mark.parametrize("prefix", ["", "file:", "file://"])
def test_ways_to_write_a_path(prefix: str, path: Path) -> None:
    """A path, a path that says so, and a URL are one place."""
    with open_lease(f"{prefix}{path}", "worker") as lease:
        assert lease.where == str(path)
        with pytest.raises(LeaseHeldError), open_lease(str(path), "other name"):
            pass


def test_home_of_nobody() -> None:
    """A ~ that leads nowhere is a wrong setting."""
    with pytest.raises(SettingsError, match="home directory"):
        open_lease("~no-such-user/worker.lock", "worker")


def test_off_excludes_nobody() -> None:
    """Who switches it off gets what they asked for."""
    with open_lease("off", "worker") as one, open_lease("OFF", "worker") as two:
        one.renew()
        two.renew()


def test_default_is_one_file_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place, runs of one name exclude each other, and names that no file could have are fine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with open_lease("", "account/worker") as lease, open_lease("", "account/other"):
        assert Path(lease.where).parent == tmp_path / ".local/state/flagedge"
        with pytest.raises(LeaseHeldError), open_lease("", "account/worker"):
            pass


def test_default_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lambda function's user has no home, but a temporary directory."""
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_lease("", "worker") as lease:
        assert tmp_path in Path(lease.where).parents


# -- files --


def test_second_run_is_told_who_is_first(path: Path, clock: Clock) -> None:
    """The loser leaves with exit 0 and knows whom it lost to."""
    with open_lease(str(path), "worker", holder="host-1 pid 7", now=clock) as lease:
        lease.renew()
        with pytest.raises(LeaseHeldError) as caught, open_lease(str(path), "worker"):
            pass
    assert f"{path}: host-1 pid 7, since 2026-11-01T12:00:00Z, until it ends" in str(caught.value)
    assert caught.value.exit_code == 0


def test_holder_is_this_process_unless_told(path: Path) -> None:
    """Without a holder's name there are host and pid."""
    with open_lease(str(path), "worker"), pytest.raises(LeaseHeldError, match=r"pid \d+"), open_lease(str(path), ""):
        pass


def test_file_stays_and_can_be_taken_again(path: Path) -> None:
    """The same lease may be taken many times, also after an error inside it."""
    lease = open_lease(str(path), "worker")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lease:
            raise ZeroDivisionError
    assert path.read_bytes() == b""
    with lease:
        assert path.stat().st_mode & 0o777 == 0o600


def test_two_processes_fight_for_a_file(path: Path) -> None:
    """Exactly one of two wins, every time."""
    assert fight(str(path), rounds=20) == [["held", "won"]] * 20


def test_killed_holder_leaves_the_file_free(path: Path) -> None:
    """After kill -9 the next run starts at once, whatever stands in the file."""
    with rivals(str(path)) as [rival]:
        rival.say("take")
        assert rival.hear() == "won"
        with pytest.raises(LeaseHeldError, match=f"pid {rival.process.pid},"), open_lease(str(path), "worker"):
            pass
        rival.kill()
        assert path.read_bytes()
        with open_lease(str(path), "worker"):
            pass


@pytest.mark.parametrize("left", [b"\0" * 80, b"lease of somebody, sin"])
def test_rest_of_a_crash_is_overwritten(path: Path, left: bytes) -> None:
    """What a machine without power left behind stops nobody."""
    path.parent.mkdir()
    path.write_bytes(left)
    with open_lease(str(path), "worker"):
        assert path.read_bytes().endswith(b"until it ends\n")


def test_deleted_file_is_a_lost_lease(path: Path) -> None:
    """Where the file is gone, another run can be in."""
    with open_lease(str(path), "worker") as lease:
        path.unlink()
        with open_lease(str(path), "worker"), pytest.raises(LeaseLostError, match="Just run again"):
            lease.renew()


def test_no_other_file_is_overwritten(path: Path) -> None:
    """A wrong path does not cost a database."""
    path.parent.mkdir()
    path.write_bytes(b"\nprecious")
    with pytest.raises(LocalError, match="something else than a lease"), open_lease(str(path), "worker"):
        pass
    assert path.read_bytes() == b"\nprecious"


def test_no_link_is_followed(path: Path, tmp_path: Path) -> None:
    """Whoever may write to the directory cannot make us write elsewhere."""
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalError, match="cannot be used"), open_lease(str(path), "worker"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_file_that_is_deleted_while_it_is_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a file that is in no directory excludes nobody."""

    def lock_too_late(file: int, how: int, flock: Any = fcntl.flock) -> None:
        path.unlink()
        flock(file, how)

    monkeypatch.setattr("fcntl.flock", lock_too_late)
    with pytest.raises(LocalError, match="deleted or replaced at this moment"), open_lease(str(path), "worker"):
        pass


@pytest.mark.parametrize("place", ["file/worker.lock", ".", "/proc/worker.lock"])
def test_unusable_file(tmp_path: Path, place: str) -> None:
    """A place where no file can be is said to be one, with a way out."""
    (tmp_path / "file").touch()
    where = tmp_path / place
    with pytest.raises(LocalError, match=r"cannot be used: .*s3://BUCKET/KEY"), open_lease(str(where), "worker"):
        pass


# -- S3 --


def test_s3_lease_from_taking_to_leaving(aws: Aws, clock: Clock) -> None:
    """Nobody there: one request to take it, none to keep it, one to give it back."""
    with s3_lease(clock) as lease:
        lease.renew()
        body = stored(aws)
        assert body.pop("nonce")
        assert body == {
            "holder": "this run",
            "taken_at": "2026-11-01T12:00:00+00:00",
            "expires_at": "2026-11-01T12:05:00+00:00",
        }
    assert stored(aws) is None
    assert aws.operations == ["PUT", "DELETE"]


def test_s3_lease_is_given_back_after_an_error(aws: Aws, clock: Clock) -> None:
    """The block's own error comes out, and the lease is free."""
    with pytest.raises(ZeroDivisionError), s3_lease(clock):
        raise ZeroDivisionError
    assert stored(aws) is None


def test_second_run_in_s3_is_told_who_is_first(aws: Aws, clock: Clock) -> None:
    """The loser leaves with exit 0 and knows whom it lost to, since when and until when."""
    with s3_lease(clock, "request 1"):
        with pytest.raises(LeaseHeldError) as caught, s3_lease(clock):
            pass
        assert stored(aws)["holder"] == "request 1"
    assert f"{WHERE}: request 1, since 2026-11-01T12:00:00Z, until 2026-11-01T12:05:00Z" in str(caught.value)
    assert caught.value.exit_code == 0


def test_two_processes_fight_for_an_object(aws: Aws) -> None:
    """Exactly one of two wins, every time."""
    assert fight(WHERE, rounds=8) == [["held", "won"]] * 8


def test_expired_lease_is_taken_over_after_the_margin(aws: Aws, clock: Clock) -> None:
    """A dead run's lease is free when its time and the margin for wrong clocks are over, and not earlier."""
    s3_lease(clock, "the dead")._take()
    clock.pass_s(329)
    with pytest.raises(LeaseHeldError), s3_lease(clock):
        pass
    clock.pass_s(1)
    with structlog.testing.capture_logs() as logs, s3_lease(clock):
        assert stored(aws)["holder"] == "this run"
    (log,) = logs
    assert (log["event"], log["previous"].split(",")[0]) == ("lease.taken_over", "the dead")


def test_many_want_an_expired_lease(aws: Aws, clock: Clock) -> None:
    """Of those that find it expired one wins: the others' requests name a state that is gone."""
    s3_lease(clock, "the dead")._take()
    clock.pass_s(400)
    everybody_is_there = threading.Barrier(5)

    def wins(lease: Lease) -> bool:
        everybody_is_there.wait(30)
        try:
            lease._take()
        except LeaseHeldError:
            return False
        return True

    leases = [s3_lease(clock, f"run {number}") for number in range(5)]
    with ThreadPoolExecutor(len(leases)) as pool:
        (winner,) = [lease for lease, won in zip(leases, pool.map(wins, leases), strict=True) if won]
    assert stored(aws)["nonce"] == winner._ours.claim.nonce


def test_conflict_with_one_that_is_gone_again(aws: Aws, clock: Clock) -> None:
    """A 409 without a holder is tried again, a few times."""
    aws.break_calls("PUT", status=409, code="ConditionalRequestConflict")
    with s3_lease(clock):
        assert aws.operations == ["PUT", "GET", "PUT"]
    aws.break_calls("PUT", times=3, status=409, code="ConditionalRequestConflict")
    with pytest.raises(LeaseHeldError, match="it has not said which"), s3_lease(clock):
        pass


def test_renewal_after_a_third(aws: Aws, clock: Clock) -> None:
    """Renewing costs a request only when a third of the time is gone, and gives the whole time again."""
    with s3_lease(clock) as lease:
        clock.pass_s(99)
        lease.renew()
        assert aws.operations == ["PUT"]
        clock.pass_s(1)
        lease.renew()
        lease.renew()
        assert aws.operations == ["PUT", "PUT"]
        assert stored(aws)["expires_at"] == "2026-11-01T12:06:40+00:00"
        assert stored(aws)["taken_at"] == "2026-11-01T12:00:00+00:00"
    assert stored(aws) is None


def test_expired_lease_that_nobody_wanted_is_renewed(aws: Aws, clock: Clock) -> None:
    """A slow run may go on as long as no other one has come."""
    with s3_lease(clock) as lease:
        clock.pass_s(10_000)
        lease.renew()
    assert stored(aws) is None


def test_lost_lease_is_found_at_renewal_and_left_alone(aws: Aws, clock: Clock) -> None:
    """An overtaken run stops with exit 1, is told to run again, and does not touch the other one's lease."""
    with s3_lease(clock) as slow:
        clock.pass_s(400)
        s3_lease(clock, "the other")._take()
        with pytest.raises(LeaseLostError) as caught:
            slow.renew()
    assert "was lost to the other, since 2026-11-01T12:06:40Z" in str(caught.value)
    assert "Just run again" in str(caught.value)
    assert caught.value.exit_code == 1
    assert stored(aws)["holder"] == "the other"


def test_lease_that_is_gone_is_lost(aws: Aws, clock: Clock) -> None:
    """No object is no lease: another run may have come and gone."""
    with s3_lease(clock) as lease:
        aws.client("s3").delete_object(Bucket="bucket", Key=KEY)
        clock.pass_s(100)
        with pytest.raises(LeaseLostError, match="gone again"):
            lease.renew()


def test_release_leaves_a_strangers_lease_alone(aws: Aws, clock: Clock) -> None:
    """Whoever's clock was wrong: what is not ours any more is not deleted, and that is said."""
    with structlog.testing.capture_logs() as logs, s3_lease(clock):
        s3_lease(Clock(START + timedelta(seconds=400)), "the other")._take()
    assert stored(aws)["holder"] == "the other"
    assert [log["event"] for log in logs] == ["lease.taken_over", "lease.release_failed"]


def test_release_past_its_time_asks_for_nothing(aws: Aws, clock: Clock) -> None:
    """What has run out needs no deletion, conditional or not."""
    with s3_lease(clock):
        clock.pass_s(300)
    assert aws.operations == ["PUT"]


@pytest.mark.parametrize("times", [1, 3])
def test_write_that_was_done_without_an_answer(aws: Aws, clock: Clock, times: int) -> None:
    """boto3 repeats what was not answered and is refused because of itself: the nonce says that it has won."""
    aws.break_calls("PUT", times=times, done=True)
    with s3_lease(clock) as lease:
        assert stored(aws)["holder"] == "this run"
        clock.pass_s(100)
        aws.break_calls("PUT", times=times, done=True)
        lease.renew()
        assert stored(aws)["expires_at"] == "2026-11-01T12:06:40+00:00"
        clock.pass_s(100)
        lease.renew()
        aws.break_calls("DELETE", done=True)
    assert stored(aws) is None


def test_write_that_was_not_done(aws: Aws, clock: Clock) -> None:
    """No answer and no object: nobody has the lease, and the run fails."""
    aws.break_calls("PUT", times=3)
    with pytest.raises(UnavailableError, match="S3 did not answer"), s3_lease(clock):
        pass
    assert stored(aws) is None


def test_renewal_whose_answer_was_lost_for_good(aws: Aws, clock: Clock) -> None:
    """A renewal that was done although it failed is found by the next one, and by the release."""
    for again in (True, False):
        with s3_lease(clock) as lease:
            clock.pass_s(100)
            aws.break_calls("PUT", times=3, done=True)
            aws.break_calls("GET", times=3)
            with pytest.raises(UnavailableError):
                lease.renew()
            if again:
                clock.pass_s(1)
                lease.renew()
        assert stored(aws) is None


def test_failing_release_hides_nothing(aws: Aws, clock: Clock) -> None:
    """Neither the block's error nor its success: the lease runs out by itself."""
    for error in (None, ZeroDivisionError("of the block")):
        aws.break_calls("DELETE", times=3)
        with structlog.testing.capture_logs() as logs, ExitStack() as stack:
            if error:
                stack.enter_context(pytest.raises(ZeroDivisionError, match="of the block"))
            stack.enter_context(s3_lease(clock))
            if error:
                raise error
        clock.pass_s(400)
        assert [log["event"] for log in logs if log["event"] != "lease.taken_over"] == ["lease.release_failed"]


@pytest.mark.parametrize("body", [b"precious", b"[1]", b"{}", b'{"taken_at": 5, "expires_at": 5}', b"x" * 9000])
def test_no_other_object_is_overwritten(aws: Aws, clock: Clock, body: bytes) -> None:
    """A wrong key does not cost an object."""
    put(aws, body)
    with pytest.raises(DecodeError, match="something else than a lease"), s3_lease(clock):
        pass
    assert aws.client("s3").get_object(Bucket="bucket", Key=KEY)["Body"].read() == body


def test_missing_bucket(aws: Aws, clock: Clock) -> None:
    """A wrong bucket is no free lease."""
    with pytest.raises(ApiError, match=r"404 NoSuchBucket. Check bucket"), open_lease("s3://none/key", "worker"):
        pass


def test_access_denied(aws: Aws, clock: Clock) -> None:
    """A refusal names every permission that a lease needs."""
    aws.break_calls("PUT", status=403, code="AccessDenied")
    with pytest.raises(ApiError, match=r"403 AccessDenied.*s3:ListBucket") as caught, s3_lease(clock):
        pass
    assert caught.value.status == 403


def test_s3_that_fails(aws: Aws, clock: Clock) -> None:
    """5xx after three attempts is a failed run."""
    aws.break_calls("PUT", times=3, status=503, code="SlowDown")
    with pytest.raises(UnavailableError, match="503 SlowDown"), s3_lease(clock):
        pass


def test_no_credentials(aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing on our side is a wrong setting."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SettingsError, match=f"{WHERE}: no AWS credentials were found"), s3_lease(clock):
        pass
    assert aws.calls == []


def test_repr_names_the_place() -> None:
    """A lease prints as its place."""
    assert repr(open_lease(WHERE, "worker")) == f"ObjectLease('{WHERE}')"
