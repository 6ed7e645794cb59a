"""Where facts and data lie that are not part of the repository: tests that need them are skipped without."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("FLAGEDGE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
