"""Which state is to be live: what the CDN serves, what is live already, or one of those before.

A state that was rolled back stays away for as long as the CDN serves the one that it was rolled back from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from flagedge.errors import DecodeError, FlagedgeError, UnavailableError
from flagedge.settings import Secret
from sync_job.archive import Archive
from sync_job.archive_store import ArchiveError, NoArchiveError
from sync_job.decode import DecodedState, decode_state, decrypt_state
from sync_job.fetch import FetchedState, fetch_state
from sync_job.live import LiveWorker

_log = structlog.get_logger()


class RollbackError(FlagedgeError):
    """There is nothing to roll back, or to that state."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A state that may be deployed. `rolled_back_from` is "" unless it replaces one that the CDN still serves.

    `previous_etag` is of the state that was live before it, None where that is to be found out when it is archived;
    `is_archived` says that it lies there as it should.
    """

    decoded: DecodedState = field(repr=False)
    etag: str
    rolled_back_from: str = ""
    previous_etag: str | None = None
    is_archived: bool = False


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses between CDN and archive; `archive` is None where none is kept."""

    url: str
    state_key: Secret
    archive: Archive | None

    def find_new(self, live: LiveWorker, *, may_stay: bool, is_forced: bool = False) -> Candidate | None:
        """The CDN's state if it is another; else what is live, None where that may stay as it is.

        A forced one is the CDN's whatever is live, and ends a rollback. What has to be deployed again for other reasons
        comes from the archive, so also while the CDN cannot be reached or serves what is no state. Raises
        UnavailableError and DecodeError where it is not there.
        """
        known_etag = "" if is_forced else live.known_etag
        try:
            fetched = fetch_state(self.url, known_etag=known_etag)
            if fetched and fetched.etag != known_etag:
                return _decode(fetched, self.state_key)
        except (UnavailableError, DecodeError) as error:
            again = None if may_stay or not known_etag else self._find_live(live)
            if again is None:
                raise
            _log.warning("state.not_fetched", error=error.message, etag=live.etag)
            return again
        if may_stay:
            return None
        again = self._find_live(live)
        if again is None and fetched:
            return _decode(fetched, self.state_key)
        return again or fetch_candidate(self.url, self.state_key)

    def find_earlier(self, served: LiveWorker, etag: str, *, may_stay: bool) -> Candidate | None:
        """The state to roll back to, by default the one before what is served; None where that is done.

        Raises RollbackError, ArchiveError.
        """
        if self.archive is None:
            raise NoArchiveError
        archive = self.archive
        if not served.etag:
            raise RollbackError("there is nothing to roll back: no state of ours is live")
        etag = etag or archive.load(served.etag).previous_etag
        if not etag:
            raise RollbackError(
                f"the archive does not know what was live before state {served.etag}", hint="Name a state with --to"
            )
        kept = archive.load(etag)
        if kept.etag == served.etag and may_stay:
            return None
        over = "" if kept.etag == served.known_etag else served.known_etag
        return Candidate(kept.decoded, kept.etag, over, kept.previous_etag)

    def _find_live(self, live: LiveWorker) -> Candidate | None:
        """The live state from the archive; None where that has it not and the CDN has it, too."""
        again = find_archived(self.archive, live)
        if again is None and live.rolled_back_from:
            raise ArchiveError(
                f"the Worker is rolled back to state {live.etag}, and the archive does not have it any more",
                hint="Mend the archive, or `sync-job rollback --clear` to go on with what the CDN serves",
            )
        return again


def fetch_candidate(url: str, state_key: Secret) -> Candidate:
    """What the CDN serves, whatever is live."""
    fetched = fetch_state(url)
    assert fetched is not None  # without an entity tag the answer is no 304
    return _decode(fetched, state_key)


def _decode(fetched: FetchedState, state_key: Secret) -> Candidate:
    data = decrypt_state(fetched.data, state_key) if state_key else fetched.data
    return Candidate(decode_state(data), fetched.etag)


def find_archived(archive: Archive | None, live: LiveWorker) -> Candidate | None:
    """What is live, once more; None where the archive does not have it."""
    if archive is None or not live.etag:
        return None
    try:
        kept = archive.load(live.etag)
    except ArchiveError as error:
        _log.info("state.not_in_archive", reason=str(error))
        return None
    return Candidate(kept.decoded, kept.etag, live.rolled_back_from, kept.previous_etag, is_archived=True)


def keep(archive: Archive, candidate: Candidate, *, served_etag: str) -> bool:
    """Archive a state that is about to replace what is served; False if it lies there already. Raises ArchiveError.

    What was rolled back to is the newest again, and keeps its predecessor.
    """
    etag, previous_etag = candidate.etag, candidate.previous_etag
    if candidate.is_archived or (etag == served_etag and archive.has(etag)):
        return False
    if previous_etag is None:
        previous_etag = "" if etag == served_etag else served_etag
    archive.put(candidate.decoded, etag=etag, previous_etag=previous_etag)
    return True
