"""DuckDB's way to S3."""

from __future__ import annotations

from urllib.parse import urlsplit

import duckdb

from flagedge.errors import LocalError
from log_consumer.databases import S3
from log_consumer.engine import load_extension, one_line, quote


def is_s3(path: str) -> bool:
    return path.startswith("s3://")


def load_s3(connection: duckdb.DuckDBPyConnection) -> None:
    """Raises SettingsError when the packages are not there."""
    load_extension(connection, "httpfs")
    load_extension(connection, "aws")


def sign_in_to_s3(connection: duckdb.DuckDBPyConnection, s3: S3) -> None:
    """Let AWS's own chain say who reads and writes: environment, profile, the function's or machine's role.

    Raises LocalError when nothing does.
    """
    options = {"type": "s3", "provider": "credential_chain", "refresh": "'auto'"}
    if s3.region:
        options["region"] = quote(s3.region)
    if s3.endpoint:
        url = urlsplit(s3.endpoint)
        options |= {"endpoint": quote(url.netloc), "url_style": "'path'"}
        options["use_ssl"] = "true" if url.scheme == "https" else "false"
    given = ", ".join(f"{key} {value}" for key, value in options.items())
    try:
        connection.execute(f"create or replace secret objects ({given})")
    except duckdb.Error as exc:
        hint = "Give the function or machine a role, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
        raise LocalError(f"no credentials for S3 were found: {one_line(exc)}", hint=hint) from exc
