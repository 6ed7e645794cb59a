// Builds what sync_job uploads: murmur3.wasm, and one minified module without runtime dependencies, of which there are
// two: worker.js, and worker_full.js with the parts that few settings want. V8 reads all of a script before the first
// answer. The plan and the bitsets are modules that sync_job adds; `--test` and `--bench` build those entry points
// instead, `--browser` what pages load.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import createWabt from "wabt";

const here = fileURLToPath(new URL(".", import.meta.url));
const other = ["test", "bench", "browser"].find((name) => process.argv.includes(`--${name}`));
const out = other === undefined ? `${here}../sync_job/bundle` : `${here}build/${other}`;
const shared = { bundle: true, format: "esm", minify: other !== "test", legalComments: "none", logLevel: "warning" };

await mkdir(out, { recursive: true });
if (other === "browser") await buildBrowser();
else await buildWorker();

async function buildWorker() {
  const wabt = await createWabt();
  const wat = await readFile(`${here}src/murmur3.wat`, "utf8");
  await writeFile(`${out}/murmur3.wasm`, wabt.parseWat("murmur3.wat", wat, { multi_value: true }).toBinary({}).buffer);
  const entry = `${here}src/index.ts`;
  if (other === undefined) await Promise.all([buildScripts({ worker: entry }, false), buildScripts({ worker_full: entry }, true)]);
  else if (other === "test") await buildScripts({ worker: `${here}test/entry.ts` }, true);
  else await buildScripts({ worker: `${here}bench/entry.ts`, clients: `${here}bench/clients.ts` }, true);
}

async function buildScripts(entryPoints, isFull) {
  await build({
    ...shared,
    entryPoints,
    outdir: out,
    target: "es2024",
    external: ["*.wasm", "*/plan.json", "*.bin", "cloudflare:*"],
    define: { IS_FULL: String(isFull) },
    // A constant of a part that is left out is left out too.
    pure: ["TextEncoder"],
  });
}

async function buildBrowser() {
  const entryPoints = ["flags", "openfeature"].map((name) => `${here}browser/${name}.ts`);
  await build({ ...shared, entryPoints, outdir: out, target: "es2022" });
}
