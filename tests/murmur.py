"""The two buckets that Confidence derives from a unit, as tests name them.

The hash is the evaluator's own, which the official vectors hold (tests/sync_job/test_evaluate.py).
"""

from __future__ import annotations

from sync_job.units import bucket, murmur3_x64_128

__all__ = ["bucket", "murmur3_x64_128", "population_bucket", "variant_bucket"]


def population_bucket(account: str, unit: str, count: int = 1_000_000) -> int:
    """The bit of a segment's bitset that decides about `unit`."""
    return bucket(f"MegaSalt-{account}|{unit}", count)


def variant_bucket(segment: str, unit: str, count: int) -> int:
    """The bucket that decides which assignment `unit` gets; `segment` may be in short form."""
    return bucket(f"{segment.removeprefix('segments/')}|{unit}", count)
