"""`OFREP_CLIENTS` against the state: whom it names has to be there."""

from __future__ import annotations

import json

from sync_command import Sync


def test_a_client_that_the_state_does_not_have(sync: Sync) -> None:
    """Told with the names that there are, for a misnamed backend is open to browsers; flags go live all the same."""
    settings = {"clients/nobody": {"backend": True}, "clients/web-shop": {"exposes": False}}
    code, out, err = sync.run(OFREP_CLIENTS=json.dumps(settings))
    assert code == 0
    lines = [json.loads(line) for line in (out + err).splitlines() if "ofrep.client_unknown" in line]
    assert [line["client"] for line in lines] == ["clients/nobody"]
    assert "clients/mobile-app, clients/web-shop" in lines[0]["hint"]
