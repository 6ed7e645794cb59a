"""What docs/deploy.md and the Dockerfile say, tried as far as this machine has the tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.package import REPOSITORY, build_wheel

PAGE = (REPOSITORY / "docs/deploy.md").read_text()
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def blocks(language: str) -> list[str]:
    """The page's blocks of code in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment after the Dockerfile's `pip install`s, from a copy of what it copies."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    shutil.copy(REPOSITORY / "requirements/run.txt", folder / "run.txt")
    build_wheel(folder)
    commands = re.findall(r"^RUN (pip install .*)$", DOCKERFILE, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        here = command.replace("/tmp/", f"{folder}/").replace("pip ", f"{folder}/venv/bin/pip -q ", 1)
        subprocess.run(["sh", "-c", here.replace("--no-cache-dir ", "")], check=True, cwd=folder)
    return folder / "venv/bin"


def test_the_dockerfile_copies_what_there_is() -> None:
    """Sources of COPY exist or are what `make package` writes, and .dockerignore lets them in."""
    ignored = (REPOSITORY / ".dockerignore").read_text()
    copied = re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied
    for source in copied:
        assert f"!{source}" in ignored
        assert source.startswith("dist/") or (REPOSITORY / source).exists()
    assert re.search(r"^USER \d+$", DOCKERFILE, re.MULTILINE)


def test_cron_lines(installed: Path, tmp_path: Path) -> None:
    """Each has five fields and a user, and its command runs as cron runs it, with the settings from the file."""
    [table] = blocks("cron")
    settings = tmp_path / "flagedge.env"
    settings.write_text("CLOUDFLARE_API_TOKEN=\nCLOUDFLARE_API_BASE_URL=nonsense\nRETENTION_DAYS=nonsense\n")
    lines = [line for line in table.splitlines() if line[0] in "*0123456789"]
    assert len(lines) == 3
    for line in lines:
        *_, user, command = line.split(" ", 6)
        assert user == "flagedge"
        here = command.replace("/etc/flagedge.env", str(settings)).replace("/opt/flagedge/bin", str(installed))
        done = subprocess.run(["/bin/sh", "-c", here], capture_output=True, text=True, check=False, env={"PATH": ""})
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(r"^error: wrong settings: .*must be", done.stderr), done.stderr


def test_systemd_units(installed: Path, tmp_path: Path) -> None:
    """systemd finds nothing to say about the units, with the programs where they are here."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze on this machine")
    service, timer = blocks("ini")
    names = [tmp_path / "flagedge-sync.service", tmp_path / "flagedge-sync.timer"]
    names[0].write_text(service.replace("/opt/flagedge/bin", str(installed)))
    names[1].write_text(timer)
    done = subprocess.run([program, "verify", "--man=no", *names], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "flagedge" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_cronjob(tmp_path: Path) -> None:
    """kubectl knows every field of it; it never runs twice at once, and as nobody special."""
    manifest = blocks("yaml")[0]
    job = yaml.safe_load(manifest)["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    assert f"useradd --create-home --uid {pod['securityContext']['fsGroup']} " in DOCKERFILE
    mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl on this machine")
    assert read_by_kubectl(program, manifest, tmp_path) == yaml.safe_load(manifest)
    for right, wrong in (
        ("concurrencyPolicy: Forbid", "concurrencyPolice: Forbid"),
        ("fsGroup: 10001", "fsGroup: many"),
    ):
        assert read_by_kubectl(program, manifest.replace(right, wrong), tmp_path) != yaml.safe_load(manifest)


def read_by_kubectl(program: str, manifest: str, folder: Path) -> Any:
    """What kubectl makes of a manifest, without a cluster: it drops what no CronJob has. None for a refusal."""
    path = folder / "job.yaml"
    path.write_text(manifest)
    [image] = re.findall(r"image: (\S+)", manifest)
    command = [program, "set", "image", "--local", "-f", str(path), "sync-job=another", "-o", "yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(folder)})
    read = yaml.safe_load(done.stdout.replace("image: another", f"image: {image}")) if done.returncode == 0 else None
    return read and without_defaults(read)


def without_defaults(value: Any) -> Any:
    """Without the empty fields that kubectl adds."""
    if isinstance(value, list):
        return [without_defaults(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: without_defaults(each) for key, each in value.items() if key not in {"creationTimestamp", "status"}}
    return {key: each for key, each in found.items() if key != "metadata" or each}


def test_the_workflow() -> None:
    """Its settings are ours, its secrets come from GitHub, and runs do not overlap."""
    workflow = yaml.safe_load(blocks("yaml")[1])
    assert workflow["concurrency"]["cancel-in-progress"] is False
    steps = workflow["jobs"]["sync"]["steps"]
    environ = steps[-1]["env"]
    settings = (REPOSITORY / "docs/settings.md").read_text()
    for name, value in environ.items():
        assert f"`{name}`" in settings
        assert "SECRET" not in name or value == f"${{{{ secrets.{name} }}}}"


def test_the_installed_commands(installed: Path) -> None:
    """Both say what they can do, from the environment that has nothing else."""
    for command in ("sync-job", "log-consumer"):
        done = subprocess.run([installed / command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
