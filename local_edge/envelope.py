"""The envelope around every answer of the REST API, and the way a handler refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

Item = TypeVar("Item")


class RefusalError(Exception):
    """A request is answered with `status` and one numeric Cloudflare `code`."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def json_response(body: Any, status: int = 200) -> Response:
    return Response(to_json(body), status, media_type="application/json")


def answer(result: Any, *, result_info: dict[str, Any] | None = None) -> Response:
    body: dict[str, Any] = {"success": True, "errors": [], "messages": [], "result": result}
    if result_info is not None:
        body["result_info"] = result_info
    return json_response(body)


def failure_body(code: int, message: str) -> bytes:
    errors = [{"code": code, "message": message}]
    return to_json({"success": False, "errors": errors, "messages": [], "result": None})


def refusal_response(status: int, code: int, message: str) -> Response:
    return Response(failure_body(code, message), status, media_type="application/json")


def read_number(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number from the query string, 10026 when it is not one or out of range."""
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise RefusalError(400, 10026, f"{name} must be a whole number from {low} to {high}")
    return int(text)


def read_page(
    request: Request, items: Sequence[Item], *, default_per_page: int = 20, most: int = 100
) -> tuple[Sequence[Item], dict[str, int]]:
    """The page of `items` that ?page= and ?per_page= choose, and the page numbers for `result_info`."""
    page = read_number(request, "page", 1, low=1, high=1_000_000)
    per_page = read_number(request, "per_page", default_per_page, low=1, high=most)
    shown = items[(page - 1) * per_page : page * per_page]
    info = {
        "page": page,
        "per_page": per_page,
        "count": len(shown),
        "total_count": len(items),
        "total_pages": -(-len(items) // per_page),
    }
    return shown, info


def answer_page(request: Request, items: Sequence[Any], *, default_per_page: int = 20, most: int = 100) -> Response:
    """One page of `items`, with the page numbers beside it."""
    shown, info = read_page(request, items, default_per_page=default_per_page, most=most)
    return answer(shown, result_info=info)


async def read_json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        raise RefusalError(400, 10026, "could not parse request body") from None


async def read_object(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    if not isinstance(body, dict):
        raise RefusalError(400, 10026, "the request body must be a JSON object")
    return body


def whole_number(value: Any, name: str, *, low: int, high: int, code: int = 10026) -> int:
    """The number, or a refusal with `code`: JSON knows no whole numbers, so 5.0 is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0:
        raise RefusalError(400, code, f"{name} must be a whole number")
    if not low <= value <= high:
        raise RefusalError(400, code, f"{name} must be from {low} to {high}")
    return int(value)
