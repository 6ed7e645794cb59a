"""Every error that a command can end with, in one tree.

    FlagedgeError            exit 1: the run failed
    ├── SettingsError        exit 2: the operator has to change something; nothing was touched
    ├── DecodeError          the data is not what it should be (a state, a plan, a message)
    ├── LocalError           this machine cannot do what is asked (a port, a program, a file)
    └── ApiError             Cloudflare (or a CDN) refused or failed
        ├── RateLimitedError     429, after the retry budget was spent
        └── UnavailableError     timeout, broken connection or 5xx, after the retry budget was spent

A message names the thing; the hint says what to do about it. Neither ever holds a secret.
"""

from __future__ import annotations


class FlagedgeError(Exception):
    """A run failed; `hint` tells the operator the way out."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class SettingsError(FlagedgeError):
    """Settings are missing or wrong: all problems at once, nothing touched."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("wrong settings: " + "; ".join(problems))
        self.problems = problems


class DecodeError(FlagedgeError):
    """Data could not be decoded, or says something that cannot be."""


class LocalError(FlagedgeError):
    """This machine cannot do what is asked: a busy port, a missing program, an unwritable file."""


class ApiError(FlagedgeError):
    """A remote call was answered with a failure.

    `status` is the HTTP status (0 when there was no answer), `codes` Cloudflare's numeric error codes.
    """

    def __init__(self, message: str, *, status: int = 0, codes: tuple[int, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.codes = codes


class RateLimitedError(ApiError):
    """429, still there when the retry budget was spent."""


class UnavailableError(ApiError):
    """No answer, or a 5xx, still so when the retry budget was spent."""
