// SPDX-License-Identifier: Apache-2.0
// Walks the page over the real server from two images to a report, by keyboard, with the scene's truth as the analyst. The
// numbers on the page are checked against the files the server made and against the program's own `estimate`; the server is
// killed while labels are made and none may be lost. Training takes a few steps only: what is tested is the way, not the map.
// usage: node test_real.mjs PROGRAM WORK CHROMIUM [SCREENSHOTS]; WORK holds data/scenes/{pre.tif,post.tif,footprints.*}, truth.csv
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [program, work, executablePath, shots] = process.argv.slice(2);
const wanted = Number(process.env.REAL_LABELS ?? 32), judged = Number(process.env.REAL_SAMPLE ?? 20);
const steps = Number(process.env.REAL_STEPS ?? 6), waits = Boolean(process.env.REAL_WAIT);
const names = ["none", "minor", "major", "destroyed"];
const rows = (text) => text.trim().split("\n").map((l) => l.split(",").map((f) => f.trim().replace(/^"(.*)"$/, "$1")));
const truth = new Map(rows(readFileSync(join(work, "truth.csv"), "utf8")).slice(1).map(([id, cls]) => [id, cls]));
const footprints = readdirSync(join(work, "data/scenes")).find((f) => f.startsWith("footprints"));
const isGrade = (id) => names.includes(truth.get(id));

let failed = 0;
const times = [];
async function step(name, body) {
  const since = Date.now();
  try {
    await body();
    console.log(`ok   ${name} (${Date.now() - since} ms)`);
  } catch (e) {
    failed++;
    console.log(`FAIL ${name}: ${e.stack}`);
    if (shots) await page.screenshot({ path: `${shots}/failed_${failed}.png` }).catch(() => {});
  }
  times.push([name, Date.now() - since]);
}

/* ---- the server ---------------------------------------------------------------------------------------------------------- */

let port = 0, base = "", server = null;
async function start() {
  server = spawn(program, ["serve", "--data-root", join(work, "data"), "--port", String(port)], { stdio: ["ignore", "pipe", "inherit"] });
  const line = await new Promise((resolve, reject) => {
    let told = "";
    server.stdout.on("data", (d) => (told += d).includes("\n") && resolve(told.split("\n")[0]));
    server.on("exit", (c) => reject(new Error(`the server ended with ${c}`)));
  });
  base = line.trim().replace(/\/$/, "");
  port = Number(new URL(base).port);
}
const stop = (signal) => new Promise((resolve) => (server.removeAllListeners("exit"), server.on("exit", resolve), server.kill(signal)));
const ask = async (path) => {
  const r = await fetch(`${base}${path}`);
  assert.ok(r.ok, `${path}: ${r.status}`);
  return r.json();
};
const id = "scenes-2"; // the title is that of a folder in the data root, whose name is taken
const labels = async () => (await ask(`/assessments/${id}/labels`)).labels;

await start();
const browser = await chromium.launchPersistentContext(join(work, "profile"), {
  executablePath, headless: true, locale: "en", viewport: { width: 1280, height: 720 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage();
page.setDefaultTimeout(60000);
const problems = [];
page.on("console", (m) => ["error", "warning"].includes(m.type()) && !/Failed to load resource|ERR_CONNECTION|ERR_EMPTY|ERR_INCOMPLETE/.test(m.text()) && problems.push(`console: ${m.text()}`));
page.on("pageerror", (e) => problems.push(`page: ${e.message}`));
page.on("response", (r) => r.status() >= 500 && problems.push(`${r.status()} ${r.url()}`));
// The page asks for the usual training; here it is a short one.
await page.route("**/processes/train/execution", (route) => {
  const body = route.request().postDataJSON();
  return route.continue({ postData: JSON.stringify({ inputs: { ...body.inputs, steps, batch: 8, preset: "lite", method: "supervised" } }) });
});

/** As one sees it, the whole of a long page, and on a tablet held across. */
async function pictures(name) {
  await page.screenshot({ path: `${shots}/${name}.png` });
  const height = await page.evaluate(() => Math.ceil(document.querySelector("main").scrollHeight + document.querySelector("main").getBoundingClientRect().top));
  for (const [kind, size] of [["whole", height > 730 && { width: 1280, height }], ["tablet", { width: 1024, height: 768 }]]) {
    if (!size) continue;
    await page.setViewportSize(size);
    await page.waitForTimeout(800);
    await page.screenshot({ path: `${shots}/${name}_${kind}.png` });
  }
  await page.setViewportSize({ width: 1280, height: 720 });
}
const axe = readFileSync("node_modules/axe-core/axe.min.js", "utf8");
/** No fault by WCAG 2.2 A and AA, nothing wider than the window. */
async function look(name) {
  if (shots) await pictures(name);
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] }));
  assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 100)).join(" | ")}`), []);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} fits the window`);
}
const visit = (where) => page.evaluate((h) => void (location.hash = h), `/${id}/${where}`);
const text = async (selector) => (await page.locator(selector).innerText()).trim();
const until = (fn, arg, timeout = 60000) => page.waitForFunction(fn, arg, { timeout, polling: 100 });
const waitText = (selector, wantedText, timeout) => until(([s, w]) => document.querySelector(s)?.textContent.includes(w), [selector, wantedText], timeout);
const saved = () => waitText("#save-state", "All labels saved");
const current = () => page.evaluate(() => document.querySelector("#building bdi")?.textContent ?? "");
const numbers = (s) => [...s.replace(/(\d),(?=\d{3})/g, "$1").matchAll(/\d+(?:\.\d+)?/g)].map((m) => Number(m[0]));

async function eventually(test, ms = 200000) {
  for (const end = Date.now() + ms; !(await test()); await page.waitForTimeout(200)) assert.ok(Date.now() < end, `not within ${ms} ms: ${test}`);
}

/** Decides about the building that is shown as the truth says; resolves to its id when the next one is there. */
async function decide() {
  await until(() => document.querySelector("#building bdi") && !document.querySelector(".reasons"));
  const b = await current();
  if (isGrade(b)) await page.keyboard.press(String(names.indexOf(truth.get(b))));
  else {
    await page.keyboard.press("4");
    await page.locator(".reasons").waitFor();
    await page.keyboard.press("0"); // unclear
  }
  await until((was) => document.querySelector("#building bdi")?.textContent !== was, b);
  return b;
}
const given = [];

// Two zones, west and east, that hold every building between them.
const { bbox } = await ask(`/files/info?ref=scenes/${footprints}`);
const around = [bbox[0] - 1e-4, bbox[1] - 1e-4, bbox[2] + 1e-4, bbox[3] + 1e-4].map((v) => Number(v.toFixed(6)));
const middle = (around[0] + around[2]) / 2;
const zone = (zone_id, west, east) => ({
  type: "Feature",
  properties: { zone_id, called: `The ${zone_id}` },
  geometry: { type: "Polygon", coordinates: [[[west, around[1]], [east, around[1]], [east, around[3]], [west, around[3]], [west, around[1]]]] },
});
writeFileSync(join(work, "data/scenes/zones.geojson"), JSON.stringify({ type: "FeatureCollection", features: [zone("west", around[0], middle), zone("east", middle, around[2])] }));

/* ---- the walk ------------------------------------------------------------------------------------------------------------- */

await step("start and new: two images and the outlines from the data folder", async () => {
  await page.goto(`${base}/`);
  await waitText("main", "There is none yet.");
  await page.getByRole("link", { name: "New assessment" }).click();
  await page.locator("#title").fill("Scenes");
  await page.locator("#event-type").selectOption("tornado");
  await page.locator("#event-date").fill("2011-05-22");
  for (const [legend, file] of [["Images before", "pre.tif"], ["Images after", "post.tif"], ["Building footprints", footprints]]) {
    const field = page.locator("fieldset", { hasText: legend }).first();
    await field.getByRole("button", { name: "scenes" }).click();
    await field.getByRole("button", { name: file }).click();
    await field.locator(".chosen dl").waitFor();
  }
  await page.locator("#aoi input[value=box]").check();
  for (const [i, side] of ["west", "south", "east", "north"].entries()) await page.locator(`#aoi-${side}`).fill(String(around[i]));
  await until(() => !document.querySelector("#create").disabled);
  await until(() => [...document.querySelectorAll(".chosen img")].every((i) => i.complete && i.naturalWidth));
  await look("01_new");
  await page.locator("#create").click();
});

await step("import: a title that is a folder's name gets a number; the count is the file's", async () => {
  await waitText("#state", "ready to label", 120000);
  assert.equal(await page.evaluate(() => location.hash), `#/${id}/sources`);
  await look("02_sources");
  const a = await ask(`/assessments/${id}`);
  assert.deepEqual([a.title, a.buildings, a.state], ["Scenes", truth.size, "ready"]);
  assert.equal(a.aoi.type.replace("Multi", ""), "Polygon");
  const zones = page.locator("#zones-part");
  await zones.getByRole("button", { name: "scenes" }).click();
  await zones.getByRole("button", { name: "zones.geojson" }).click();
  await zones.locator("#zone-id_field").selectOption("zone_id");
  await zones.locator("#zone-name_field").selectOption("called");
  await zones.getByRole("button", { name: "Save" }).click();
  await zones.getByText("scenes/zones.geojson (zone_id, called)").waitFor();
  assert.ok(numbers(await text("main")).includes(truth.size));
});

const acks = [];
page.on("requestfinished", (r) => r.method() === "PUT" && acks.push(Math.round(r.timing().responseEnd)));

await step("checks: alignment is measured while labels are made, which stay quick", async () => {
  await visit("checks");
  await page.locator("#verdicts tbody tr").nth(3).waitFor();
  await page.getByRole("button", { name: /measure/i }).first().click();
  await page.locator(".job").first().waitFor();
  await visit("label");
  for (let i = 0; i < 6; i++) given.push(await decide());
  await saved();
  const usual = [...acks].sort((a, b) => a - b)[acks.length >> 1];
  assert.ok(acks.length >= 6 && usual < 5000, `a label takes ${usual} ms`);
  await visit("checks");
  await page.locator("#worst img").first().waitFor({ timeout: 120000 });
  const { alignment } = await ask(`/assessments/${id}/checks`);
  const shown = await text("main");
  assert.ok(shown.includes(alignment.median_m.toFixed(2)) && numbers(shown).includes(alignment.measured), "the page tells what was measured");
  assert.equal(await page.locator("line.arrow").count(), alignment.arrows.length);
  await look("03_checks");
});

await step("label: by keyboard, the server killed in the middle, nothing lost", async () => {
  await visit("label");
  await until(() => [...document.querySelectorAll(".pair img")].length >= 2 && [...document.querySelectorAll(".pair img")].every((i) => i.complete && i.naturalWidth));
  await look("04_label");
  while (given.length < 12) given.push(await decide());
  await stop("SIGKILL");
  for (let i = 0; i < 4; i++) given.push(await decide());
  await waitText("#save-state", "not yet at the server");
  await look("05_away");
  await start();
  await saved();
  const held = new Map((await labels()).map((l) => [l.bldg_id, l]));
  for (const b of given) assert.equal(held.get(b)?.dmg_class, isGrade(b) ? truth.get(b) : "unknown", b);
});

await step("label: a model is trained in the background, the map follows by itself", async () => {
  let m = await ask(`/assessments/${id}/metrics`);
  for (; given.length < wanted || m.n_train < 25; m = await ask(`/assessments/${id}/metrics`)) given.push(await decide());
  await saved();
  // The server has begun by itself, for its usual two minutes; that is waited for (REAL_WAIT), or stopped and a short training
  // asked for.
  await page.locator(".side-panel progress").waitFor();
  assert.ok(await page.locator("#train").isDisabled());
  if (shots) await page.screenshot({ path: `${shots}/06_training.png` });
  if (!waits) {
    await page.locator(".side-panel .meter button").first().click();
    await waitText(".side-panel .job", "stopped");
    await page.locator("#train").click();
  }
  await page.locator("#model-facts").waitFor({ timeout: waits ? 400000 : 200000 });
  await eventually(async () => (await ask(`/assessments/${id}`)).state === "predicted");
  const held = await labels();
  const shown = await page.locator("#label-counts tbody tr").evaluateAll((trs) => trs.map((r) => [...r.querySelectorAll("td")].map((d) => Number(d.textContent))));
  const listed = [...names, "unknown"].map((c) => ["train", "validate"].map((p) => held.filter((l) => l.dmg_class === c && l.purpose === p).length));
  // A label that teaches does not count any more once its building is drawn for the blind sample.
  assert.deepEqual(shown.map((r) => r[1]), listed.map((r) => r[1]));
  assert.ok(shown.every((r, i) => r[0] <= listed[i][0]) && shown.reduce((n, r) => n + r[0], 0) >= held.length - listed.reduce((n, r) => n + r[1], 0) - 3, `${shown} of ${listed}`);
  m = await ask(`/assessments/${id}/metrics`);
  assert.ok(waits ? m.curve.length >= 1 : m.curve.length === 1);
  assert.ok(m.curve.every((c) => c.n_labels >= 20 && c.n_labels <= m.n_train), "it learnt from the labels that teach");
  await look("06_trained");
});

const damage = () => {
  const [head, ...body] = rows(readFileSync(join(work, `data/${id}/map/damage.csv`), "utf8"));
  return body.map((r) => Object.fromEntries(head.map((h, i) => [h, r[i]])));
};

await step("map: predict all again; classes counted as in damage.csv", async () => {
  await visit("map");
  await waitText("#status", "buildings in view");
  const mapped = async () => (await ask(`/jobs?assessment=${id}`)).jobs.filter((j) => j.processID === "predict" && j.status === "successful").length;
  const before = await mapped();
  await page.locator("#predict").focus();
  await page.keyboard.press("Enter");
  await page.locator(".predict .job").first().waitFor();
  await eventually(async () => (await mapped()) > before);
  await page.reload();
  await waitText("#status", `${truth.size} buildings in view`);
  await page.locator("#legend tbody tr").nth(1).waitFor();
  const shown = await page.locator("#legend tbody tr").evaluateAll((trs) => trs.map((r) => Number(r.children[2].textContent)));
  const table = damage();
  assert.equal(table.length, truth.size);
  const counted = new Map();
  for (const r of table) counted.set(r.dmg_class, (counted.get(r.dmg_class) ?? 0) + 1);
  assert.deepEqual(shown.slice(0, counted.size).sort(), [...counted.values()].sort());
  await look("07_map");
});

await step("review: the model's word is accepted by one key", async () => {
  await visit("review");
  await page.locator("#building").waitFor();
  for (let i = 0; i < 50 && !(await page.locator("#accept").count()); i++) await page.keyboard.press("Enter"); // "damaged" names no level
  const b = await current();
  const said = damage().find((r) => r.bldg_id === b);
  assert.ok((await text(".about")).includes(Number(said.p_dmg).toFixed(3)), "the probability is the file's");
  await look("08_review");
  await page.keyboard.press("a");
  await saved();
  const l = (await labels()).find((x) => x.bldg_id === b);
  assert.equal(l.dmg_class, { undamaged: "none" }[said.dmg_class] ?? said.dmg_class);
});

const blind = async () => (await labels()).filter((l) => l.purpose === "validate").sort((x, y) => x.draw - y.draw);

await step("validate: blind and in drawn order", async () => {
  await visit("validate");
  await page.locator("#building").waitFor();
  assert.ok(!/unsure|Model:|probab/i.test(await text(".work")), "nothing is said of the prediction");
  for (let n = (await blind()).length; n < judged; n++) await decide();
  await saved();
  const held = await blind();
  assert.deepEqual(held.map((l) => l.draw), held.map((_, i) => i + 1));
  for (const l of held) assert.equal(l.dmg_class, isGrade(l.bldg_id) ? truth.get(l.bldg_id) : "unknown", l.bldg_id);
  await waitText("#sample-plan", `${held.length}`);
  await look("09_validate");
});

await step("report: totals as the program itself estimates them, and as counted by hand", async () => {
  await visit("report");
  await page.locator("#total-damaged").waitFor();
  await page.locator("#method").selectOption("exact");
  const held = await blind();
  const table = join(work, "graded.csv");
  writeFileSync(table, ["bldg_id,purpose,draw,grade", ...held.map((l) => `${l.bldg_id},validate,${l.draw},${l.dmg_class}`)].join("\n") + "\n");
  const own = (method) => JSON.parse(execFileSync(program, ["estimate", join(work, `data/${id}/map`), `--truth=${table}:grade`, `--method=${method}`, "--json"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  const hits = held.filter((l) => ["major", "destroyed"].includes(l.dmg_class)).length;
  for (const method of ["exact", "model-assisted"]) {
    await page.locator("#method").selectOption(method);
    const d = own(method).whole.damaged;
    const wantedText = [d.estimate, d.low, d.high].map((x, i) => [Math.round, Math.floor, Math.ceil][i](x));
    if (method === "exact") assert.equal(wantedText[0], Math.round((hits / held.length) * truth.size), "share of the sample times all");
    await until(([a]) => document.querySelector("#total-damaged")?.textContent.replace(/(\d),(?=\d{3})/g, "$1").includes(a), [`${wantedText[0]} (${wantedText[1]} – ${wantedText[2]}) of ${truth.size}`], 20000);
    const inSample = await page.locator("#totals tbody tr").evaluateAll((trs) => trs.map((r) => Number(r.children[1].textContent)));
    assert.deepEqual(inSample, [...names, "unknown"].map((c) => held.filter((l) => l.dmg_class === c).length), method);
  }
  const perZone = await page.locator("#zones tbody tr").evaluateAll((trs) => trs.map((r) => [r.children[0].textContent, Number(r.children[1].textContent)]));
  assert.deepEqual(perZone.map(([name]) => name).sort(), ["The east", "The west"]);
  assert.equal(perZone.reduce((n, z) => n + z[1], 0), truth.size);
  assert.ok(perZone.every((z) => z[1] > 0));
  await look("10_report");
});

await step("report: the printed page opens and says the same", async () => {
  const [printed] = await Promise.all([browser.waitForEvent("page"), page.locator("#open-report").click()]);
  await printed.waitForLoadState();
  const shown = numbers((await text("#total-damaged")).replace(/^[^:]*:/, ""));
  const there = numbers(await printed.locator("body").innerText());
  for (const n of shown) assert.ok(there.includes(n), `the report tells ${n}`);
  assert.match(await printed.locator("h1").innerText(), /Scenes/);
  // a second policy beside the report's own would take its style away
  assert.match(await printed.evaluate(() => getComputedStyle(document.body).fontFamily), /sans/i, "the printed page has its style");
  if (shots) await printed.screenshot({ path: `${shots}/11_printed.png` });
  await printed.close();
  const json = await ask(`/assessments/${id}/report.json?lang=en`);
  assert.equal(Math.round(json.estimate.whole.damaged.estimate), shown[0]);
});

await step("share: every file offered is there", async () => {
  await visit("share");
  await page.locator(".address input").first().waitFor();
  for (const path of await page.locator("main a[download]").evaluateAll((l) => l.map((x) => x.href))) assert.equal((await fetch(path, { method: "HEAD" })).status, 200, path);
  await look("12_share");
});

await step("no error on the console, none from the server", () => assert.deepEqual(problems, []));

await browser.close();
await stop("SIGTERM");
console.log(times.map(([n, ms]) => `${(ms / 1000).toFixed(1)} s ${n.split(":")[0]}`).join(", "));
console.log(`labels acknowledged after ${acks.sort((a, b) => a - b)[acks.length >> 1]} ms (median), ${acks.at(-1)} ms at most`);
console.log(`${failed} failed`);
process.exit(failed ? 1 : 0);
