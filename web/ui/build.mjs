// SPDX-License-Identifier: Apache-2.0
// Bundles the page into dist/: index.html, app.js, app.css, each gzip-compressed as the program embeds them (web/page.c).
// Nothing in the output depends on the time or the place of the build. Usage: node build.mjs [DIST]
import { build } from "esbuild";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const dist = process.argv[2] ?? "dist";
const limit = 300 * 1024; // first load, compressed: a field office may sit behind a slow link

const result = await build({
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2020"],
  legalComments: "none",
  write: false,
  outdir: dist,
});

mkdirSync(dist, { recursive: true });
let total = 0;
const files = result.outputFiles.map((f) => [f.path.split("/").pop(), Buffer.from(f.contents)]);
files.push(["index.html", readFileSync("src/index.html")]);
for (const [name, bytes] of files) {
  const packed = gzipSync(bytes, { level: 9 });
  total += packed.length;
  writeFileSync(`${dist}/${name}.gz`, packed);
}
console.log(`page: ${total} bytes compressed`);
if (total > limit) {
  console.error(`page: more than ${limit} bytes compressed; leave something out`);
  process.exit(1);
}
