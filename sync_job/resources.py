"""What a Worker needs beside itself: queues with their pull consumer, and KV namespaces; made if absent."""

from __future__ import annotations

from flagedge.errors import FlagedgeError
from sync_job.settings import SyncSettings
from sync_job.workers_api import WorkersApi


class PushConsumerError(FlagedgeError):
    """The flag-logs queue feeds a Worker, so nobody could pull from it."""


class MissingResourceError(FlagedgeError):
    """A queue, consumer or namespace is missing that somebody else is to make."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, and MAKE_RESOURCES=false leaves making it to others",
            hint="Let them make it (`terraform apply`, for one), or drop MAKE_RESOURCES",
        )


def ensure_queue(api: WorkersApi, settings: SyncSettings, *, adopt: bool) -> None:
    """The flag-logs queue, its dead-letter queue and its pull consumer: made if absent.

    `adopt` detaches a push consumer, such as the official Worker; without it that is a PushConsumerError. Raises
    MissingResourceError where others are to make them.
    """
    queue = api.find_queue(settings.worker.queue_name)
    consumers = api.list_queue_consumers(queue.queue_id) if queue else []
    if any(consumer.get("type") == "http_pull" for consumer in consumers):
        return
    if not settings.make_resources:
        name = settings.worker.queue_name
        raise MissingResourceError(f"queue {name} has no pull consumer" if queue else f"there is no queue {name}")
    if consumers and not adopt:
        names = ", ".join(str(consumer.get("script_name") or consumer.get("script") or "?") for consumer in consumers)
        raise PushConsumerError(
            f"queue {settings.worker.queue_name} feeds the Worker {names}, so flag logs could not be pulled",
            hint="Run once with --adopt to detach that consumer (its messages stay in the queue), "
            "or choose other names with WORKER_NAME_PREFIX",
        )
    queue = queue or api.create_queue(settings.worker.queue_name)
    if api.find_queue(settings.dead_letter_queue_name) is None:
        api.create_queue(settings.dead_letter_queue_name)
    for consumer in consumers:
        api.delete_queue_consumer(queue.queue_id, str(consumer["consumer_id"]))
    api.create_pull_consumer(queue.queue_id, dead_letter_queue=settings.dead_letter_queue_name)


def ensure_namespaces(api: WorkersApi, settings: SyncSettings) -> dict[str, str]:
    """The ids of the KV namespaces by binding; those that do not exist are made, or a MissingResourceError."""
    ids = {}
    for binding, title in settings.worker.namespaces:
        found = api.find_kv_namespace(title)
        if found is None and not settings.make_resources:
            raise MissingResourceError(f"there is no KV namespace {title}")
        ids[binding] = found or api.create_kv_namespace(title)
    return ids
