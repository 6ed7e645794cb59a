"""Queues over the REST API and from a Worker."""

from __future__ import annotations

import base64
import json
import time

import httpx
import pytest
from edge_account import EdgeAccount, new_name


def test_queue_names(account: EdgeAccount) -> None:
    """A queue's name is lower case and unique."""
    _, name = account.create_queue()
    assert account.call("POST", "/queues", {"queue_name": name}).refusal == (409, 11009)
    assert account.call("POST", "/queues", {"queue_name": "Not_Good"}).refusal == (400, 11003)
    assert account.call("GET", "/queues/0000").refusal == (404, 11000)


def test_list_queues(account: EdgeAccount) -> None:
    """Lists are paged and filtered by name."""
    _, first = account.create_queue()
    _, second = account.create_queue()
    named = account.call("GET", "/queues", params=[("name", first), ("name", second)]).result
    assert [queue["queue_name"] for queue in named] == [first, second]
    page = account.call("GET", "/queues", params={"name": [first, second], "per_page": 1, "page": 2})
    assert page.body["result_info"]["total_pages"] == 2
    assert page.result[0]["queue_name"] == second


def test_queue_settings_and_delete(account: EdgeAccount) -> None:
    """Settings change one by one, within their limits; a deleted queue is gone, a bound one is not deleted."""
    queue_id, name = account.create_queue()
    settings = account.call("PATCH", f"/queues/{queue_id}", {"settings": {"delivery_delay": 5}}).result["settings"]
    assert settings == {"delivery_delay": 5, "delivery_paused": False, "message_retention_period": 345_600}
    wrong = {"settings": {"message_retention_period": 1}}
    assert account.call("PATCH", f"/queues/{queue_id}", wrong).refusal == (400, 100128)
    script = new_name("bound")
    account.upload(script, bindings=[{"type": "queue", "name": "Q", "queue_name": name}])
    assert account.call("DELETE", f"/queues/{queue_id}").refusal == (400, 11005)
    account.call("DELETE", f"/workers/scripts/{script}")
    assert account.call("DELETE", f"/queues/{queue_id}").result is None
    assert account.call("GET", f"/queues/{queue_id}").refusal == (404, 11000)


CONSUMER = "export default { fetch() { return new Response('ok') }, queue() {} };"


def test_settings_that_are_replaced(account: EdgeAccount) -> None:
    """A PUT of a queue puts back to its default what it does not name."""
    queue_id, _ = account.create_queue()
    account.call("PATCH", f"/queues/{queue_id}", {"settings": {"delivery_delay": 5}})
    settings = {"message_retention_period": 60}
    replaced = account.call("PUT", f"/queues/{queue_id}", {"settings": settings}).result["settings"]
    assert replaced == {"delivery_delay": 0, "delivery_paused": False, "message_retention_period": 60}


def test_one_consumer_a_queue(account: EdgeAccount) -> None:
    """A second consumer is a 11004, of either type, until the first is deleted."""
    queue_id, _ = account.create_queue(consumer=False)
    path = f"/queues/{queue_id}/consumers"
    script = new_name("consumer")
    account.upload(script, CONSUMER)
    for body in ({"type": "worker", "script_name": script}, {"type": "http_pull"}):
        created = account.call("POST", path, body).result
        assert account.call("POST", path, {"type": "http_pull"}).refusal == (400, 11004)
        assert account.call("POST", path, {"type": "worker", "script_name": script}).refusal == (400, 11004)
        assert account.call("GET", path).result == [created]
        assert account.call("GET", f"{path}/{created['consumer_id']}").result == created
        assert account.call("GET", f"/queues/{queue_id}").result["consumers"] == [created]
        assert account.call("DELETE", f"{path}/{created['consumer_id']}").result is None
    assert account.call("GET", path).result == []
    assert account.call("DELETE", f"{path}/{created['consumer_id']}").status == 404


def test_the_shape_of_consumers(account: EdgeAccount) -> None:
    """Each type has its settings, filled in with their defaults."""
    queue_id, name = account.create_queue(consumer=False)
    path = f"/queues/{queue_id}/consumers"
    pull = account.call("POST", path, {"type": "http_pull", "settings": {"max_retries": 100}}).result
    assert (pull["type"], pull["queue_name"], pull["dead_letter_queue"]) == ("http_pull", name, "")
    pulled = {"batch_size": 10, "visibility_timeout_ms": 30_000, "max_retries": 100, "retry_delay": 0}
    assert pull["settings"] == pulled
    changed = account.call("PUT", f"{path}/{pull['consumer_id']}", {"type": "http_pull"}).result
    assert changed["settings"]["max_retries"] == 3
    account.call("DELETE", f"{path}/{pull['consumer_id']}")
    script = new_name("consumer")
    account.upload(script, CONSUMER)
    push = account.call("POST", path, {"type": "worker", "script_name": script}).result
    assert (push["type"], push["script_name"], push["dead_letter_queue"]) == ("worker", script, "")
    assert push["settings"] == {
        "batch_size": 10,
        "max_retries": 3,
        "max_wait_time_ms": 5_000,
        "max_concurrency": None,
        "retry_delay": 0,
    }
    assert account.call("PUT", f"{path}/{push['consumer_id']}", {"type": "http_pull"}).refusal == (400, 100127)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"type": "http_pull", "dead_letter_queue": "no-such-queue"}, (400, 11000)),
        ({"type": "http_pull", "settings": {"visibility_timeout": 5}}, (400, 100127)),
        ({"type": "http_pull", "settings": {"max_retries": 101}}, (400, 100127)),
        ({"type": "http_pull", "script_names": "x"}, (400, 100127)),
        ({"type": "email"}, (400, 100127)),
        ({"type": "worker"}, (404, 10007)),
        ({"type": "worker", "script_name": "no-such-worker"}, (404, 10007)),
    ],
)
def test_wrong_consumers(account: EdgeAccount, body: dict[str, object], refusal: tuple[int, int]) -> None:
    """A consumer's settings are known and within limits, and what it names is there."""
    queue_id, _ = account.create_queue(consumer=False)
    assert account.call("POST", f"/queues/{queue_id}/consumers", body).refusal == refusal


def test_a_queue_is_not_its_own_dead_letter_queue(account: EdgeAccount) -> None:
    """Dead letters go somewhere else."""
    queue_id, name = account.create_queue(consumer=False)
    body = {"type": "http_pull", "dead_letter_queue": name}
    assert account.call("POST", f"/queues/{queue_id}/consumers", body).refusal == (400, 100127)


def test_a_consuming_worker_has_a_queue_handler(account: EdgeAccount) -> None:
    """A Worker without a queue handler becomes no consumer, and a consumer deploys no version without one."""
    queue_id, _ = account.create_queue(consumer=False)
    path = f"/queues/{queue_id}/consumers"
    script = new_name("handler")
    account.upload(script)
    body = {"type": "worker", "script_name": script}
    assert account.call("POST", path, body).refusal == (400, 11001)
    account.upload(script, CONSUMER)
    consumer = account.call("POST", path, body).result
    assert account.upload(script).refusal == (400, 11001)
    live, waiting = account.latest(script)["id"], account.upload_version(script).result["id"]
    assert account.deploy(script, {live: 100, waiting: 0}).refusal == (400, 11001)
    assert account.call("DELETE", f"/workers/scripts/{script}").refusal == (400, 10142)
    account.call("DELETE", f"{path}/{consumer['consumer_id']}")
    assert account.deploy(script, {waiting: 100}).result


@pytest.mark.parametrize("consumer", [None, "worker"])
def test_pull_needs_a_pull_consumer(account: EdgeAccount, consumer: str | None) -> None:
    """Pulling from a queue, or acknowledging, is a 405 without an http_pull consumer, with a Worker's too."""
    queue_id, _ = account.create_queue(consumer=False)
    if consumer:
        script = new_name("push")
        account.upload(script, CONSUMER)
        body = {"type": consumer, "script_name": script}
        assert account.call("POST", f"/queues/{queue_id}/consumers", body).result
    assert account.call("POST", f"/queues/{queue_id}/messages/pull", {}).status == 405
    assert account.call("POST", f"/queues/{queue_id}/messages/ack", {"acks": [{"lease_id": "x"}]}).status == 405


def test_message_bodies(account: EdgeAccount) -> None:
    """JSON comes as base64, text as it is, with the content type and the source beside it."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, {"a": "é"})
    text = {"body": 'quote " é \n', "content_type": "text"}
    metrics = account.call("POST", f"/queues/{queue_id}/messages", text).result["metadata"]["metrics"]
    assert metrics["backlog_count"] == 2
    as_json, as_text = account.pull(queue_id)
    assert json.loads(base64.b64decode(as_json["body"])) == {"a": "é"}
    assert as_json["metadata"]["CF-Content-Type"] == "json"
    assert as_text["body"] == text["body"]
    assert as_text["metadata"] == {"CF-sourceMessageSource": "api", "CF-Content-Type": "text"}
    assert (as_text["attempts"], len(as_text["id"])) == (1, 32)


def test_leases(account: EdgeAccount) -> None:
    """A leased message is invisible until its lease ends, and comes back with one more attempt and the same id."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, 1)
    (first,) = account.pull(queue_id, visibility_timeout_ms=200)
    assert account.pull(queue_id) == []
    time.sleep(0.25)
    (second,) = account.pull(queue_id)
    assert (second["id"], second["attempts"]) == (first["id"], 2)
    assert second["lease_id"] != first["lease_id"]


def test_parallel_pulls_are_disjoint(account: EdgeAccount) -> None:
    """Two pulls never bring the same message."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, *range(10))
    first, second = account.pull(queue_id, batch_size=6), account.pull(queue_id, batch_size=6)
    assert len({message["id"] for message in first + second}) == 10


def test_pull_defaults_and_limits(account: EdgeAccount) -> None:
    """A pull brings 5 by default and at most 100; an empty body is no body."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, *range(7))
    path = f"/queues/{queue_id}/messages/pull"
    answer = account.call("POST", path)
    assert len(answer.result["messages"]) == 5
    assert answer.result["message_backlog_count"] == 7
    assert account.call("POST", path, {"batch_size": 101}).refusal == (400, 10026)
    assert account.call("POST", path, {"visibility_timeout_ms": 43_200_001}).refusal == (400, 10026)


def test_the_visibility_field_of_the_samples_is_ignored(account: EdgeAccount) -> None:
    """`visibility_timeout`, as samples in the documentation say, sets nothing: the lease has 30 s."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, 1)
    account.call("POST", f"/queues/{queue_id}/messages/pull", {"visibility_timeout": 1})
    time.sleep(0.05)
    assert account.pull(queue_id) == []


def test_ack(account: EdgeAccount) -> None:
    """An ack deletes; an unknown lease, or one acked before, is a warning and not counted."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, 1, 2)
    first, second = account.pull(queue_id, visibility_timeout_ms=100)
    assert account.ack(queue_id, first, second) == {"ackCount": 2, "retryCount": 0}
    again = account.ack(queue_id, first, {"lease_id": "none"})
    assert again["ackCount"] == 0
    assert again["warnings"].keys() == {first["lease_id"], "none"}
    time.sleep(0.15)
    assert account.pull(queue_id) == []
    assert account.call("GET", f"/queues/{queue_id}/metrics").result["backlog_count"] == 0


def test_late_ack(account: EdgeAccount) -> None:
    """A lease that ended still acks, unless the message was handed out again."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, 1, 2)
    late, lost = account.pull(queue_id, visibility_timeout_ms=50)
    time.sleep(0.1)
    assert account.ack(queue_id, late)["ackCount"] == 1
    (redelivered,) = account.pull(queue_id)
    assert redelivered["id"] == lost["id"]
    assert account.ack(queue_id, lost)["ackCount"] == 0
    assert account.ack(queue_id, redelivered)["ackCount"] == 1


def test_retry(account: EdgeAccount) -> None:
    """A message in `retries` is back at once, or after its delay."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, 1, 2)
    now, later = account.pull(queue_id)
    retries = [{"lease_id": now["lease_id"]}, {"lease_id": later["lease_id"], "delay_seconds": 1}]
    result = account.call("POST", f"/queues/{queue_id}/messages/ack", {"retries": retries}).result
    assert (result["ackCount"], result["retryCount"]) == (0, 2)
    (back,) = account.pull(queue_id)
    assert (back["id"], back["attempts"]) == (now["id"], 2)
    time.sleep(1.05)
    assert [message["id"] for message in account.pull(queue_id)] == [later["id"]]


@pytest.mark.parametrize("body", [{}, {"acks": []}, {"acks": [{"lease_id": "x"}] * 101}, {"acks": ["x"]}])
def test_ack_of_nothing(account: EdgeAccount, body: dict[str, object]) -> None:
    """An ack that names no lease, or too many, is a 10026."""
    queue_id, _ = account.create_queue()
    assert account.call("POST", f"/queues/{queue_id}/messages/ack", body).refusal == (400, 10026)


def test_dead_letters(account: EdgeAccount) -> None:
    """After max_retries a message goes to the dead letter queue, counted from one attempt again."""
    dead_id, dead = account.create_queue()
    queue_id, _ = account.create_queue(dead_letter_queue=dead, max_retries=1)
    account.push(queue_id, "poison")
    (first,) = account.pull(queue_id, visibility_timeout_ms=0)
    (second,) = account.pull(queue_id, visibility_timeout_ms=0)
    assert (first["attempts"], second["attempts"]) == (1, 2)
    (buried,) = account.pull(dead_id)
    assert (buried["id"], buried["attempts"]) == (first["id"], 1)
    assert account.pull(queue_id) == []


def test_without_a_dead_letter_queue(account: EdgeAccount) -> None:
    """After max_retries a message without a dead letter queue is gone."""
    queue_id, _ = account.create_queue(max_retries=0)
    account.push(queue_id, "poison")
    (message,) = account.pull(queue_id)
    retries = [{"lease_id": message["lease_id"]}]
    account.call("POST", f"/queues/{queue_id}/messages/ack", {"retries": retries})
    assert account.call("GET", f"/queues/{queue_id}/metrics").result["backlog_count"] == 0


def test_send_limits(account: EdgeAccount) -> None:
    """A message over 128 KB, a batch over 256 KB and 101 messages are refused whole."""
    queue_id, _ = account.create_queue()
    path = f"/queues/{queue_id}/messages/batch"

    def send(count: int, size: int) -> tuple[int, int]:
        messages = [{"body": "x" * size, "content_type": "text"}] * count
        return account.call("POST", path, {"messages": messages}).refusal

    assert send(1, 128_001) == (413, 10204)
    assert send(3, 100_000) == (413, 10205)
    assert send(101, 1) == (413, 10206)
    assert account.pull(queue_id) == []


PRODUCER = """
export default { async fetch(request, env) {
  try {
    await env.Q.send({ a: 1 });
    await env.Q.send("té", { contentType: "text", delaySeconds: 0 });
    await env.Q.send(new Uint8Array([0, 255]), { contentType: "bytes" });
    await env.Q.sendBatch([{ body: { b: 2 } }, { body: "t2", contentType: "text" }]);
    if (request.url.endsWith("/large")) await env.Q.send("x".repeat(128001), { contentType: "text" });
    return Response.json(await env.Q.metrics());
  } catch (error) { return new Response(error.message, { status: 500 }); }
} };
"""


def test_messages_from_a_worker(account: EdgeAccount) -> None:
    """What a Worker sends arrives in order, in the form of its content type, marked as the Worker's."""
    queue_id, name = account.create_queue()
    binding = {"type": "queue", "name": "Q", "queue_name": name}
    url = account.publish(new_name("producer"), PRODUCER, bindings=[binding])
    assert httpx.get(url).json()["backlogCount"] == 5
    messages = account.pull(queue_id)
    kinds = [message["metadata"]["CF-Content-Type"] for message in messages]
    bodies = [message["body"] for message in messages]
    assert kinds == ["json", "text", "bytes", "json", "text"]
    assert [bodies[1], bodies[4]] == ["té", "t2"]
    assert [base64.b64decode(bodies[at]) for at in (0, 2, 3)] == [b'{"a":1}', b"\x00\xff", b'{"b":2}']
    assert {message["metadata"]["CF-sourceMessageSource"] for message in messages} == {"worker"}


def test_a_refused_send_rejects_in_the_worker(account: EdgeAccount) -> None:
    """The Worker learns cause and code of a refusal."""
    _, name = account.create_queue()
    binding = {"type": "queue", "name": "Q", "queue_name": name}
    url = account.publish(new_name("refused"), PRODUCER, bindings=[binding])
    assert "10204" in httpx.get(f"{url}/large").text
    account.set_faults({"match": f"POST /bindings/queue/{name}/message", "kind": "status", "status": 429})
    assert httpx.get(url).text == "Queue is overloaded (10250)"
    assert httpx.get(url).status_code == 200
