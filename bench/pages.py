"""`make bench-pages`: a page with its flags beside the same page passed through; docs/benchmarks.md explains.

One request after the other over loopback: `passed` is a path without flags, `bypass` a page that its origin does not
let us keep, `miss` one that is kept and never found, `hit` one from the cache; each answer's `Server-Timing` has to say
so. The last rows' origin compresses with gzip, as most do. CPU is that of the Worker's process.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx
from client_flags import WORKER
from page_site import COOKIE, PageSite, run_page_site

from bench.report import describe_machine
from flagedge.logs import configure_logs

REQUESTS = 400
WARM_UP = 100
ITEM = '<li class="item"><a href="/item"><span>an item of the shop</span></a></li>\n'
PAGE = f"<!doctype html><html><head><title>shop</title></head><body><ul>{ITEM * 600}</ul></body></html>"
VISITOR = "0123456789abcdef"
SOURCE = re.compile(r'page;desc="(\w+)"')
"""hit, miss or bypass; nothing is said of what passes through."""
TICKS_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    configure_logs(job="bench", level="error")
    print(describe_machine())
    print(f"{len(PAGE) / 1000:.0f} kB of HTML, {REQUESTS} requests a row, medians\n")
    print("| page | first byte, ms | whole, ms | CPU, ms |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as directory, run_page_site(Path(directory)) as site:
        passed = site.origin.answer("/plain/x", PAGE)
        bypass = site.origin.answer("/private", PAGE, cache_control="private")
        measure(site, "passed through: a path without flags", passed, "passed")
        measure(site, "from the origin, not kept", bypass, "bypass")
        kept = site.origin.answer("/kept", PAGE, cache_control="s-maxage=3600")
        measure_kept(site, kept, "")
        packed = site.origin.answer("/packed", PAGE, cache_control="s-maxage=3600", content_encoding="gzip")
        measure_kept(site, packed, ", gzip")


def measure_kept(site: PageSite, path: str, form: str) -> None:
    """Rows of a page that may be kept."""
    site.get(path, visitor=VISITOR)
    site.wait_until_kept(path)
    measure(site, f"from the origin, kept{form}", f"{path}?", "miss")
    measure(site, f"from the cache{form}", path, "hit")


def measure(site: PageSite, name: str, path: str, source: str) -> None:
    """Print a row; a path that ends with `?` is another URL each time."""
    (pid,) = site.edge.edge.runtime.pids(WORKER).values()
    times_ms: list[tuple[float, float]] = []
    numbers = itertools.count()
    with httpx.Client(base_url=site.url, headers={"cookie": f"{COOKIE}={VISITOR}"}) as http:
        for _ in range(WARM_UP):
            ask(http, path, next(numbers), source)
        before_s = read_cpu_s(pid)
        times_ms = [ask(http, path, next(numbers), source) for _ in range(REQUESTS)]
        cpu_ms = (read_cpu_s(pid) - before_s) / REQUESTS * 1000
    first, whole = (median(each) for each in zip(*times_ms, strict=True))
    print(f"| {name} | {first:.2f} | {whole:.2f} | {cpu_ms:.2f} |")


def ask(http: httpx.Client, path: str, number: int, source: str) -> tuple[float, float]:
    """Milliseconds to the first byte of the body, and to its end; the page must have come from `source`."""
    began = time.perf_counter()
    with http.stream("GET", f"{path}{number}" if path.endswith("?") else path) as response:
        body = response.iter_raw()
        next(body)
        first = time.perf_counter() - began
        for _ in body:
            pass
    whole = time.perf_counter() - began
    found = SOURCE.search(response.headers.get("server-timing", ""))
    is_so = response.status_code == 200 and (found[1] if found else "passed") == source
    assert is_so, f"{path} is not {source}: {response.status_code}, {response.headers}"
    return first * 1000, whole * 1000


def read_cpu_s(pid: int) -> float:
    """CPU time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


if __name__ == "__main__":
    main()
