// Builds what sync_job uploads: worker.js (one minified module, no runtime dependency) and murmur3.wasm.
// The plan and the bitsets are modules that sync_job adds; `--test` and `--bench` build those entry points instead,
// `--browser` what pages load.
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
  await build({
    ...shared,
    entryPoints: {
      worker: other === undefined ? `${here}src/index.ts` : `${here}${other}/entry.ts`,
      ...(other === "bench" ? { clients: `${here}bench/clients.ts` } : {}),
    },
    outdir: out,
    target: "es2024",
    external: ["*.wasm", "*/plan.json", "*.bin", "cloudflare:*"],
  });
}

async function buildBrowser() {
  const entryPoints = ["flags", "openfeature"].map((name) => `${here}browser/${name}.ts`);
  await build({ ...shared, entryPoints, outdir: out, target: "es2022" });
}
