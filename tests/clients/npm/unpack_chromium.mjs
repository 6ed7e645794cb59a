// Writes Chromium and the libraries that it needs, as @sparticuz/chromium carries them, to the directory of the first argument.
import { readFile, writeFile } from "node:fs/promises";
import { brotliDecompressSync } from "node:zlib";

const [directory] = process.argv.slice(2);
for (const name of ["chromium", "al2023.tar"]) {
  const packed = await readFile(new URL(`node_modules/@sparticuz/chromium/bin/${name}.br`, import.meta.url));
  await writeFile(`${directory}/${name}`, brotliDecompressSync(packed), { mode: 0o755 });
}
