"""How a command ends: one `error:` line on stderr for what went wrong, and the exit code that says whose turn it is."""

from __future__ import annotations

import sys
from collections.abc import Callable

from flagedge.errors import FlagedgeError

INTERRUPTED = 130


def exit_code_of(command: Callable[[], int | None], *, interrupted: str = "interrupted") -> int:
    """Run the command; 0 unless it says or raises otherwise."""
    try:
        return command() or 0
    except FlagedgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"error: {interrupted}\n")
        return INTERRUPTED
