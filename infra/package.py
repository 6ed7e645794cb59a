"""`make package`: what is deployed, in dist/: our wheel, and a zip for each AWS Lambda function and architecture.

The same inputs give the same digest: entries are sorted, times fixed, and nothing is kept that says where or when a
package was installed. A zip holds what its function needs: hashed requirements for Lambda's platform
(requirements/function-*.txt) and the packages of ours that it imports, the Worker's bundle among them.
Source: "Lambda quotas" in the AWS Lambda Developer Guide.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flagedge.command import exit_code_of
from flagedge.errors import LocalError

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = "3.13"
PLATFORMS = {"arm64": "aarch64", "x86_64": "x86_64"}
"""By Lambda's name of an architecture, that of Python's wheels."""
_WHEELS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
"""What wheels for Amazon Linux 2023 (glibc 2.34) may be built for."""
MB = 2**20
LIMIT_BYTES = 250 * MB
"""Of a function's unzipped code, its layers included."""
BUDGET_BYTES = 230 * MB
DIRECT_UPLOAD_BYTES = 50 * MB
"""A larger zip has to come from S3."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_AWS_SERVICES = ("s3", "secretsmanager", "ssm", "sts")
"""What the jobs call, and where a role's credentials come from; botocore describes some 400 more."""
_DROPPED_DIRECTORIES = {"__pycache__", "bin", "boto3/examples", "certifi/tests", "_duckdb-stubs", "adbc_driver_duckdb"}
_DROPPED_SUFFIXES = {".pyc", ".pyi", ".pxd", ".pyx", ".h"}
_DROPPED_RECORDS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}


@dataclass(frozen=True, slots=True)
class Function:
    """A function's zip: `packages` are ours, the rest is in requirements/function-`name`.txt."""

    name: str
    packages: tuple[str, ...]

    @property
    def requirements(self) -> Path:
        return REPOSITORY / f"requirements/function-{self.name}.txt"


FUNCTIONS = (
    Function("sync-job", ("flagedge", "sync_job")),
    Function("log-consumer", ("flagedge", "log_consumer")),
)


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file in dist/. `unzipped_bytes` is what Lambda counts."""

    path: Path
    unzipped_bytes: int
    sha256: str

    @property
    def zipped_bytes(self) -> int:
        return self.path.stat().st_size


def build_wheel(out: Path) -> Path:
    """Our wheel, built from a copy of the sources: whatever else lies in the checkout is not in it."""
    if not (REPOSITORY / "sync_job/bundle/worker.js").exists():
        raise LocalError("the Worker's bundle is not built", hint="`make worker` builds it")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source", Path(folder) / "made"
        _copy_sources(source)
        _run(
            "building the wheel",
            sys.executable,
            "-m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --no-index",
            *("-w", made, source),
            SOURCE_DATE_EPOCH="315532800",
        )
        [wheel] = made.iterdir()
        out.mkdir(parents=True, exist_ok=True)
        for older in out.glob("flagedge-*.whl"):  # the Dockerfile installs what is there, which is to be one.
            older.unlink()
        return Path(shutil.move(wheel, out / wheel.name))


def build_function(function: Function, wheel: Path, out: Path, *, architecture: str, python: str = PYTHON) -> Artefact:
    """The zip of one function. Raises LocalError when it is over the budget, or a requirement has no wheel."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        _install(function, stage, architecture=architecture, python=python)
        with zipfile.ZipFile(wheel) as ours:
            ours.extractall(
                stage, members=[name for name in ours.namelist() if name.partition("/")[0] in function.packages]
            )
        path = out / f"{function.name}-{architecture}.zip"
        artefact = write_zip(path, stage, _kept_files(stage))
    if artefact.unzipped_bytes > BUDGET_BYTES:
        path.unlink()
        raise LocalError(
            f"{path.name} unzips to {artefact.unzipped_bytes / MB:.0f} MB; the budget is {BUDGET_BYTES / MB:.0f}",
            hint=f"drop what the function does not need, or a dependency; Lambda's limit is {LIMIT_BYTES / MB:.0f} MB",
        )
    return artefact


def write_zip(path: Path, root: Path, names: Iterable[PurePosixPath]) -> Artefact:
    """A zip of files below `root` that depends on their names and contents alone."""
    unzipped_bytes = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            content = (root / name).read_bytes()
            entry = zipfile.ZipInfo(str(name), _EPOCH)
            entry.create_system = 3  # Unix, for the mode to count.
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
            unzipped_bytes += len(content)
    return Artefact(path, unzipped_bytes, hashlib.sha256(path.read_bytes()).hexdigest())


def _copy_sources(to: Path) -> None:
    """The packages that pyproject.toml names, with modes that do not depend on the checkout."""
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    roots = {package.partition(".")[0] for package in packages}
    for root in sorted(roots):
        shutil.copytree(REPOSITORY / root, to / root, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, to / name)
    for path in to.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _install(function: Function, stage: Path, *, architecture: str, python: str) -> None:
    _run(
        f"installing the requirements of {function.name} for {architecture}",
        sys.executable,
        "-m pip install -q --disable-pip-version-check --require-hashes --no-deps --only-binary :all: --no-compile",
        *(f"--platform={wheel}_{PLATFORMS[architecture]}" for wheel in _WHEELS),
        *(f"--python-version={python}", "--implementation=cp", "--target", stage, "-r", function.requirements),
    )


def _kept_files(stage: Path) -> Iterator[PurePosixPath]:
    for path in stage.rglob("*"):
        name = PurePosixPath(path.relative_to(stage).as_posix())
        if path.is_file() and not _is_dropped(name):
            yield name


def _is_dropped(name: PurePosixPath) -> bool:
    parents = {str(parent) for parent in name.parents} | set(name.parts[:-1])
    if parents & _DROPPED_DIRECTORIES or name.suffix in _DROPPED_SUFFIXES:
        return True
    if name.parts[0].endswith(".dist-info"):
        return name.name in _DROPPED_RECORDS
    is_service = name.parts[:2] == ("botocore", "data") and len(name.parts) > 3
    return is_service and (name.parts[2] not in _AWS_SERVICES or name.name.startswith("examples"))


def _run(purpose: str, program: str, options: str, *arguments: str | Path, **environ: str) -> None:
    command = [program, *options.split(), *map(str, arguments)]
    # A wheel keeps the modes of files, which the umask decides.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environ, umask=0o022)
    if done.returncode:
        raise LocalError(f"{purpose} failed: {done.stderr.strip() or done.stdout.strip()}")


def describe(artefact: Artefact) -> str:
    """One line: sizes, the part of Lambda's limit, the way it has to be uploaded, the digest."""
    zipped, unzipped = artefact.zipped_bytes / MB, artefact.unzipped_bytes / MB
    way = "through S3" if artefact.zipped_bytes > DIRECT_UPLOAD_BYTES else "directly or through S3"
    share = artefact.unzipped_bytes / LIMIT_BYTES
    return (
        f"  {artefact.path.name:26} {zipped:6.1f} MB zipped {unzipped:6.1f} MB unzipped, {share:4.0%} of the limit, "
        f"{way}, sha256 {artefact.sha256[:16]}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.package", description=__doc__.partition("\n")[0])
    parser.add_argument("--architecture", choices=PLATFORMS, action="append", help="of the functions; both by default")
    parser.add_argument("--python", default=PYTHON, help="the version of Lambda's runtime")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist")
    arguments = parser.parse_args(argv)

    def package() -> None:
        wheel = build_wheel(arguments.out)
        print(f"{arguments.out}:\n  {wheel.name}")
        for architecture in arguments.architecture or PLATFORMS:
            for function in FUNCTIONS:
                built = build_function(
                    function, wheel, arguments.out, architecture=architecture, python=arguments.python
                )
                print(describe(built))

    return exit_code_of(package)


if __name__ == "__main__":
    sys.exit(main())
