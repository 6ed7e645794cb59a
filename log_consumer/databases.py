"""What DATABASE can name: the path of a DuckDB file, or a lake by the URL of its catalogue.

    exposures.duckdb
    ducklake:postgres://USER[:PASSWORD]@HOST[:PORT]/NAME[?sslmode=MODE&sslrootcert=PATH]

The rest of a lake stands beside it: DATABASE_PASSWORD, LAKE_DATA_PATH, and AWS's own variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from flagedge.settings import Secret

DUCKLAKE = "ducklake:"
POSTGRES_PORT = 5432
TLS_OPTIONS = {"sslmode", "sslrootcert"}


@dataclass(frozen=True, slots=True)
class S3:
    """Where buckets are; `endpoint` is a URL. Empty: AWS, and the region that its own settings name."""

    endpoint: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Lake:
    """A DuckLake: Parquet files below `data_path`, a catalogue in a Postgres database that holds no other lake.

    `data_path` is a folder or `s3://BUCKET/PREFIX`.
    """

    host: str
    user: str
    name: str
    port: int = POSTGRES_PORT
    password: Secret = Secret("")  # noqa: RUF009 (a Secret is immutable)
    tls: tuple[tuple[str, str], ...] = ()
    data_path: str = ""
    s3: S3 = S3()

    def __str__(self) -> str:
        return f"{DUCKLAKE}postgres://{self.user}@{self.host}:{self.port}/{self.name}"

    def hide(self, text: str) -> str:
        """The text without the password, should somebody have put it in."""
        return text.replace(self.password.reveal(), "***") if self.password else text


# A path, or a lake.
Database = str | Lake


def parse_database(text: str) -> Database:
    """Raises ValueError; what it says may hold a password."""
    if not text.startswith(DUCKLAKE):
        # Other schemes are refused here, for DuckDB would print their passwords when it fails.
        if re.match(r"[a-z0-9]{2,}:|:", text, re.IGNORECASE):
            raise ValueError
        return text
    url = urlsplit(text.removeprefix(DUCKLAKE))
    options = parse_qsl(url.query, keep_blank_values=True, strict_parsing=True) if url.query else []
    name = unquote(url.path.removeprefix("/"))
    if (
        url.scheme not in {"postgres", "postgresql"}
        or not (url.hostname and url.username and name)
        or url.fragment
        or not {key for key, _ in options} <= TLS_OPTIONS
    ):
        raise ValueError
    return Lake(
        host=url.hostname,
        user=unquote(url.username),
        name=name,
        port=url.port or POSTGRES_PORT,
        password=Secret(unquote(url.password or "")),
        tls=tuple(options),
    )


def show_database(text: str) -> str:
    """DATABASE as it may be shown."""
    try:
        return str(parse_database(text))
    except ValueError:
        return "***"
