"""`sync-job types`: what compiles against the written types, and what does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from builders import flag, payload, rule, schema, state, variant
from sync_command import Sync

from sync_job.decode import decode_state
from sync_job.types import write_types

TSC = Path(__file__).resolve().parents[2] / "worker/node_modules/.bin/tsc"
PAYLOAD = payload(
    state(
        flag(
            "checkout",
            rule(),
            variants=[variant("on", {})],
            schema=schema({"express": bool, "columns": int, "title": str, "layout": {"kind": str}, "steps": [str]}),
        ),
        flag("plain", rule(), variants=[variant("on", {})], schema=schema({})),
        flag("unseen", rule(), variants=[variant("on", {})], schema=schema({}), clients=[]),
    )
)


def compile_caller(directory: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    """Compile a Worker that calls flags so."""
    (directory / "flags.d.ts").write_text(write_types(decode_state(PAYLOAD), etag='"1"'))
    caller = [
        'import type { FlagsBinding } from "./flags";',
        "export async function use(flags: FlagsBinding) {",
        *lines,
    ]
    (directory / "caller.ts").write_text("\n".join([*caller, "}", ""]))
    command = [TSC, "--noEmit", "--strict", "--lib", "es2022,dom", "--target", "es2022", "--module", "preserve"]
    return subprocess.run([*command, "caller.ts"], cwd=directory, capture_output=True, text=True, check=False)


def test_right_calls_compile(tmp_path: Path) -> None:
    """Values have their flag's types, objects field by field."""
    done = compile_caller(
        tmp_path,
        'const express: boolean = await flags.getBooleanValue("checkout.express", false);',
        'const columns: number = await flags.getNumberValue("checkout.columns", 2, { targetingKey: "u" });',
        'const title: string = (await flags.getStringDetails("checkout.title", "")).value;',
        'const kind: string | null = (await flags.getObjectValue("checkout.layout", { kind: "a" })).kind;',
        'const steps: string[] = await flags.getValue("checkout.steps", []);',
        'await flags.getDetails("plain", {});',
        'const { resolvedFlags, resolveToken: token } = await flags.resolve({ clientSecret: "s", apply: false });',
        'await flags.apply({ clientSecret: "s", resolveToken: token, flags: resolvedFlags });',
        "return [express, columns, title, kind, steps];",
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "line",
    [
        'await flags.getBooleanValue("checkout.expres", false);',
        'await flags.getObjectValue("unseen", {});',
        'await flags.getBooleanValue("checkout.title", false);',
        'await flags.getNumberValue("checkout.columns", "2");',
        'await flags.getValue("chekout", {} as never);',
        'const wrong: string = await flags.getNumberValue("checkout.columns", 2); return wrong;',
    ],
)
def test_a_misspelt_key_or_a_wrong_type_does_not_compile(tmp_path: Path, line: str) -> None:
    """The mistake is found where it is made."""
    done = compile_caller(tmp_path, line)
    assert done.returncode != 0
    assert "caller.ts" in done.stdout


def test_command_fetches_the_state(sync: Sync, tmp_path: Path) -> None:
    """Without a file, the types are those of the state that the CDN serves."""
    out = tmp_path / "flags.d.ts"
    code, said, err = sync.command("types", "--out", str(out))
    assert (code, err) == (0, "")
    assert '"checkout-layout"' in out.read_text()
    assert str(out) in said
