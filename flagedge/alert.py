"""Telling people, where Slack's incoming webhooks or something like them listen: one text.

Source: Slack's documentation, "Sending messages using incoming webhooks".
"""

from __future__ import annotations

import httpx
import structlog

from flagedge.settings import Secret

# Of a text; what is longer is cut off.
TEXT_MAX_CHARS = 3000
_TIMEOUT = httpx.Timeout(5.0)
_log = structlog.get_logger()


def send_alert(url: Secret, text: str, *, transport: httpx.BaseTransport | None = None) -> bool:
    """Whether the webhook took it; without a URL there is nobody to tell. Never raises, and never shows the URL."""
    if not url:
        return True
    try:
        with (
            httpx.Client(timeout=_TIMEOUT, transport=transport) as client,
            # What it says besides its status is not waited for.
            client.stream("POST", url.reveal(), json={"text": text[:TEXT_MAX_CHARS]}) as response,
        ):
            response.raise_for_status()
    except httpx.HTTPStatusError as error:
        _log.warning("alert.failed", error=f"the webhook answered {error.response.status_code}")
        return False
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _log.warning("alert.failed", error=type(error).__name__)
        return False
    _log.info("alert.sent")
    return True
