// SPDX-License-Identifier: Apache-2.0
// Walks the page's whole flow by keyboard over the stand-in server (mock_server.mjs): what is shown, what is sent, what
// survives. axe-core looks at every step. The catalogues are checked against each other and against what the page shows.
// usage: node test_flow.mjs DIST SRC CHROMIUM [SCREENSHOTS]
import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { buildings, Mock, names, probability, truth } from "./mock_server.mjs";

const [dist, src, executablePath, shots] = process.argv.slice(2);
let failed = 0;
async function step(name, body) {
  const since = Date.now();
  try {
    await body();
    console.log(`ok   ${name} (${Date.now() - since} ms)`);
  } catch (e) {
    failed++;
    console.log(`FAIL ${name}: ${e.stack}`);
  }
}

/* ---- catalogues --------------------------------------------------------------------------------------------------------- */

const catalogue = (tag) =>
  new Map([...readFileSync(join(src, `strings/${tag}.ts`), "utf8").matchAll(/^  (\w+): "((?:[^"\\]|\\.)*)",$/gm)].map((m) => [m[1], m[2]]));
const tags = ["en", "fr", "es", "ar"];
const catalogues = Object.fromEntries(tags.map((tag) => [tag, catalogue(tag)]));
const holes = (s) => [...s.matchAll(/\{\d\}/g)].map((m) => m[0]).sort().join();

await step("every catalogue has every key, with the same things to fill in", () => {
  assert.ok(catalogues.en.size > 250);
  assert.deepEqual(readdirSync(join(src, "strings")).sort(), tags.map((x) => `${x}.ts`).sort());
  for (const tag of tags) {
    assert.deepEqual([...catalogues[tag].keys()], [...catalogues.en.keys()], tag);
    for (const [key, text] of catalogues[tag]) {
      assert.ok(text.trim(), `${tag}.${key}`);
      assert.equal(holes(text), holes(catalogues.en.get(key)), `${tag}.${key}`);
    }
  }
});

await step("what is long is translated, and Arabic is Arabic", () => {
  for (const [key, text] of catalogues.en) {
    for (const tag of ["fr", "es", "ar"]) if (text.split(" ").length > 3 && !text.includes("API")) assert.notEqual(catalogues[tag].get(key), text, `${tag}.${key}`);
    if (/[a-z]{3}/.test(text) && !text.includes("API")) assert.match(catalogues.ar.get(key), /[\u0600-\u06ff]/, key);
  }
});

await step("every key is used, and no sentence stands in the code", () => {
  const code = readdirSync(src, { recursive: true }).filter((f) => /\.tsx?$/.test(f) && !f.startsWith("strings")).map((f) => [f, readFileSync(join(src, f), "utf8")]);
  const all = code.map(([, text]) => text).join("\n");
  const made = [...all.matchAll(/`(\w+_)\$\{/g)].map((m) => m[1]).concat([...all.matchAll(/word\("(\w+)"/g)].map((m) => `${m[1]}_`));
  for (const key of catalogues.en.keys()) assert.ok(all.includes(`"${key}"`) || made.some((p) => key.startsWith(p)), `${key} is not used`);
  for (const [file, text] of code.filter(([f]) => f.endsWith(".tsx"))) assert.deepEqual([...text.matchAll(/^ *[A-Z][a-z]+(?: [a-z]+)+[.:]?$/gm)].map((m) => m[0]), [], file);
});

/* ---- the page ------------------------------------------------------------------------------------------------------------- */

const freePort = () => new Promise((resolve) => { const s = createServer().listen(0, "127.0.0.1", () => { const { port } = s.address(); s.close(() => resolve(port)); }); });
const port = await freePort();
const base = `http://127.0.0.1:${port}`;
const mock = new Mock(dist, port);
await mock.start();
const profile = mkdtempSync(join(tmpdir(), "flow-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath, headless: true, locale: "en", viewport: { width: 1280, height: 720 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage();
const problems = [];
const requests = [];
page.on("console", (m) => ["error", "warning"].includes(m.type()) && !/Failed to load resource/.test(m.text()) && problems.push(`console: ${m.text()}`));
page.on("pageerror", (e) => problems.push(`page: ${e.message}`));
browser.on("request", (r) => requests.push(r.url()));

const axe = readFileSync("node_modules/axe-core/axe.min.js", "utf8");
/** No fault by WCAG 2.2 A and AA, nothing wider than the window. */
async function look(name, p = page) {
  if (shots) await p.screenshot({ path: `${shots}/${name}.png` });
  await p.evaluate(axe);
  const found = await p.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] }));
  assert.ok(found.passes.length > 5, "axe has looked");
  assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 100)).join(" | ")}`), []);
  await fits(name, p);
}
/** Nothing is wider than the window, nor than the column it stands in. */
async function fits(name, p = page) {
  const wide = await p.evaluate(() => [document.documentElement, ...document.querySelectorAll("aside, .work, .page")].filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => `${e.tagName} ${e.className} ${e.scrollWidth} > ${e.clientWidth}`));
  assert.deepEqual(wide, [], name);
}
const visit = (where) => page.evaluate((h) => void (location.hash = h), where);
const text = async (selector) => (await page.locator(selector).innerText()).trim();
const waitText = (selector, wanted) => page.waitForFunction(([s, w]) => document.querySelector(s)?.textContent.includes(w), [selector, wanted], { timeout: 30000, polling: 100 });
/** Until something has reached the stand-in server, or left it. */
async function eventually(test) {
  for (const end = Date.now() + 30000; !test(); await page.waitForTimeout(30)) assert.ok(Date.now() < end, `${test}`);
}
const press = (...keys) => keys.reduce((before, k) => before.then(() => page.keyboard.press(k)), Promise.resolve());
const current = (id) => waitText("#building", ` ${id}`);
const arrived = async (n) => {
  await eventually(() => mock.labels.size >= n);
  assert.equal(mock.labels.size, n);
};

await step("start: an empty list, disk and network told", async () => {
  await page.goto(`${base}/`);
  await waitText("main", "There is none yet.");
  await waitText("main", "50 GB");
  assert.equal(await page.title(), "Damage map – aftermap");
  await press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await look("1_start");
});

await step("new: files by keyboard from the data folder, a bad one refused with its reason", async () => {
  await page.getByRole("link", { name: "New assessment" }).focus();
  await press("Enter");
  await page.locator("#title").fill("Demo tornado");
  await page.locator("#event-type").selectOption("tornado");
  await page.locator("#event-date").fill("2011-05-22");
  const before = page.locator("fieldset", { hasText: "Images before" });
  await before.getByRole("button", { name: "scenes" }).focus();
  await press("Enter");
  await before.getByRole("button", { name: "wrong.tif" }).click();
  await waitText("main", "the file is not a GeoTIFF");
  assert.ok(await page.locator("#create").isDisabled());
  await before.getByRole("button", { name: "Remove" }).click();
  await before.getByRole("button", { name: "pre.tif" }).focus();
  await press("Enter");
  await waitText("main", "EPSG:32615");
});

await step("new: an upload that breaks goes on where it stopped", async () => {
  const file = join(profile, "post.tif");
  writeFileSync(file, Buffer.alloc(350000, 1));
  mock.breakUploads = 2;
  const after = page.locator("fieldset", { hasText: "Images after" });
  await after.locator("input[type=file]").setInputFiles(file);
  await after.getByText("u-1").waitFor();
  const u = mock.uploads.get("u-1");
  assert.deepEqual([u.offset, u.parts, mock.uploads.size], [350000, 4, 1]);
});

await step("new: footprints, the share that lies in both images, and the request", async () => {
  const prints = page.locator("fieldset", { hasText: "Building footprints" });
  await prints.getByRole("button", { name: "buildings.geojson" }).click();
  // Images share [10.0005, 10.005], footprints span [10, 10.002]: three quarters.
  await waitText("main", "75%");
  assert.equal(await page.locator("#id-field").inputValue(), "id");
  await look("2_new");
});

await step("new: the area of interest drawn in the sketch or written, and zones", async () => {
  await page.locator("#aoi input[value=box]").check();
  // What both images share is offered.
  const sides = async () => Promise.all(["west", "south", "east", "north"].map(async (s) => Number(await page.locator(`#aoi-${s}`).inputValue())));
  assert.deepEqual(await sides(), [10.0005, 45, 10.005, 45.003]);
  const sketch = page.locator("svg.sketch");
  await sketch.scrollIntoViewIfNeeded();
  const at = await sketch.boundingBox();
  const point = (x, y) => [at.x + at.width * x, at.y + at.height * y];
  await page.mouse.move(...point(0.3, 0.3));
  await page.mouse.down();
  await page.mouse.move(...point(0.5, 0.5), { steps: 3 });
  await page.mouse.up();
  // All extents together span [10, 10.0055] x [45, 45.003] and are centred in the sketch: its middle is their middle.
  const [w, s, e, n] = await sides();
  assert.ok(Math.abs(e - 10.00275) < 2e-5 && Math.abs(s - 45.0015) < 2e-5 && w < e && s < n, `${w} ${s} ${e} ${n}`);
  await look("2_area");
  await page.locator("#aoi-west").fill("10.001");
  await page.locator("#aoi-south").fill("");
  assert.ok(await page.locator("#create").isDisabled(), "three sides are no rectangle");
  await page.locator("#aoi-south").fill("45.001");
  await page.locator("#aoi-east").fill("10.002");
  await page.locator("#aoi-north").fill("45.002");
  await page.locator("details.optional summary").click();
  await page.locator("details.optional").getByRole("button", { name: "communes.geojson" }).click();
  await page.locator("#zone-name_field").selectOption("nom");
  await look("2_zones");
  await page.locator("#create").focus();
  await press("Enter");
  await waitText("#state", "ready to label");
  assert.deepEqual(mock.created, { title: "Demo tornado", event: { type: "tornado", date: "2011-05-22" }, pre: ["scenes/pre.tif"], post: ["u-1"], footprints: "buildings.geojson", layer: "buildings", id_field: "id", cut: 2,
    aoi: { type: "Polygon", coordinates: [[[10.001, 45.001], [10.002, 45.001], [10.002, 45.002], [10.001, 45.002], [10.001, 45.001]]] }, zones: { ref: "communes.geojson", id_field: "id", name_field: "nom" } });
  await look("3_sources");
  const part = page.locator("#zones-part");
  await part.getByRole("button", { name: "Remove" }).click();
  await part.getByRole("button", { name: "communes.geojson" }).click();
  assert.equal(mock.zones, null);
  await part.getByRole("button", { name: "Save" }).click();
  await part.getByText("communes.geojson (id)").waitFor();
  assert.deepEqual(mock.zones, { ref: "communes.geojson", id_field: "id" });
});

await step("checks: verdict as word, arrows, histogram, worst chips", async () => {
  await visit("/demo/checks");
  await page.locator("#worst img").nth(5).waitFor();
  const rows = await page.locator("#verdicts tbody tr").evaluateAll((trs) => trs.map((r) => r.children[1].textContent.trim()));
  assert.deepEqual(rows, ["✓fits", "!look at it", "✕does not fit", "–not known"]);
  assert.equal(await page.locator("line.arrow").count(), 80);
  assert.equal(await page.locator("rect.bar").count(), 10);
  // The shift (0.5, -0.7) points east and south: on the screen right and down.
  const [dx, dy] = await page.locator("line.arrow").first().evaluate((l) => [l.x2.baseVal.value - l.x1.baseVal.value, l.y2.baseVal.value - l.y1.baseVal.value]);
  assert.ok(dx > 0 && dy > 0 && Math.abs(dy / dx - 1.4) < 0.01);
  await look("4_checks");
});

const label = (i) => mock.labels.get(`b${i}`);

await step("label: digits decide and go on, Enter skips, U takes back", async () => {
  await visit("/demo/label");
  await current("b1");
  await look("5_label");
  await press(String(names.indexOf(truth(1))));
  await current("b2");
  await press("Enter");
  await current("b3");
  await press("3");
  await current("b4");
  await arrived(2);
  assert.equal(label(1).dmg_class, truth(1));
  assert.deepEqual([label(3).dmg_class, label(3).purpose, label(3).sure, label(3).shift], ["destroyed", "train", true, null]);
  await press("u");
  await current("b3");
  await eventually(() => !label(3));
  assert.equal(mock.log.at(-1).action, "clear");
  await press("b", "b");
  await current("b1");
  await press("Enter");
});

await step("label: 4 asks for a reason, arrows nudge the image under the outline", async () => {
  await current("b2");
  await press("ArrowRight", "ArrowRight", "ArrowUp");
  await waitText(".nudge", "1.00 m east, -0.50 m north");
  // 0.5 m further east than the chip was cut, in a picture of 16 m: the image goes 1/32 to the left, and down by 0.25 m.
  const moved = await page.locator("figure img[alt=After]").evaluate((i) => i.style.transform);
  assert.match(moved, /translate\(-3\.125%, 1\.5625%\)/);
  await press("4");
  await page.locator(".reasons").waitFor();
  await look("5_reasons");
  await press("2");
  await current("b3");
  await arrived(2);
  assert.deepEqual([label(2).dmg_class, label(2).reason, label(2).shift], ["unknown", "cloud", [1, -0.5]]);
});

await step("label: Space held shows before in place of after, S divides, C doubles the surroundings", async () => {
  const pictures = () => page.locator(".pair figure:last-child .frame img").evaluateAll((l) => l.map((i) => i.alt));
  assert.deepEqual(await pictures(), ["After"]);
  await page.keyboard.down(" ");
  assert.deepEqual(await pictures(), ["After", "Before"]);
  await page.keyboard.up(" ");
  assert.deepEqual(await pictures(), ["After"]);
  const hold = await page.getByRole("button", { name: "Hold to flicker" }).boundingBox();
  await page.mouse.move(hold.x + 9, hold.y + 9);
  await page.mouse.down();
  assert.deepEqual(await pictures(), ["After", "Before"]);
  await page.mouse.up();
  assert.deepEqual(await pictures(), ["After"]);
  const shown = () => page.locator("figure img[alt=Before]").first().getAttribute("src");
  assert.match(await shown(), /size_m=16/);
  await press("c");
  assert.match(await shown(), /size_m=32/);
  await press("c", "s");
  await page.locator(".cut-away").waitFor();
  await look("5_swipe");
  await press("s");
});

await step("label: a server that is away loses nothing, not even across a reload", async () => {
  await mock.stop();
  const before = mock.labels.size;
  for (let i = 3; i <= 8; i++) {
    await current(`b${i}`);
    await press(String(names.indexOf(truth(i))));
  }
  await waitText("#save-state", "not yet at the server: 6");
  await look("5_offline");
  assert.equal(mock.labels.size, before);
  const frames = () => page.evaluate(() => [...document.querySelectorAll(".frame img")].filter((i) => i.complete && i.naturalWidth).length);
  assert.equal(await frames(), 0);
  // A server that has just started has not opened the assessment yet: the desk stays as it is.
  mock.opening = true;
  const asked = page.waitForResponse((r) => r.url().endsWith("/assessments/demo"));
  await mock.start();
  await arrived(before + 6);
  await page.waitForFunction(() => [...document.querySelectorAll(".frame img")].filter((i) => i.complete && i.naturalWidth).length === 2, null, { timeout: 30000 });
  await asked;
  mock.opening = false;
  await waitText(".side-panel", "Decided in this session: 8");
  await waitText("#save-state", "All labels saved");
  await mock.stop();
  await press("0", "1");
  await waitText("#save-state", "not yet at the server: 2");
  await mock.start();
  await page.reload();
  await arrived(before + 8);
  for (let i = 3; i <= 8; i++) assert.equal(label(i).dmg_class, truth(i), `b${i}`);
});

await step("label: two people on one building notice", async () => {
  await current("b11");
  mock.set("b11", { dmg_class: "none", purpose: "train", by: "ana" });
  await press("3");
  await page.getByText("someone else has labelled it").waitFor();
  await look("5_conflict");
  assert.equal(label(11).dmg_class, "none");
  await page.getByRole("button", { name: "Keep mine" }).click();
  await waitText("#save-state", "All labels saved");
  assert.equal(label(11).dmg_class, "destroyed");
});

await step("label: the model is trained in the background and the curve appears", async () => {
  for (let i = 12; mock.of("train").length < 25; i++) {
    await current(`b${i}`);
    await press(String(names.indexOf(truth(i))));
    await arrived(i);
  }
  await page.locator("#model-facts").waitFor();
  assert.match(await page.locator(".pair figcaption").first().innerText(), /Before May 1, 2011 · Pixel 0\.60 m/);
  assert.match(await text("#model-facts"), /F1\s+0\.60/);
  assert.match(await page.locator(".side-panel svg").getAttribute("aria-label"), /25 labels, 0\.60/);
  const counted = await page.locator("#label-counts tbody tr").evaluateAll((trs) => trs.map((r) => Number(r.children[1].textContent)));
  assert.deepEqual(counted, [...names, "unknown"].map((c) => mock.of("train").filter((l) => l.dmg_class === c).length));
});

await step("label: on a French keyboard and an Arabic one the same keys work", async () => {
  const at = await text("#building");
  await page.evaluate(() => {
    const key = (code, k) => window.dispatchEvent(new KeyboardEvent("keydown", { code, key: k, bubbles: true }));
    key("KeyS", "س");
    key("Digit2", "é");
  });
  await page.waitForFunction((t) => document.querySelector("#building").textContent !== t, at);
  await page.locator(".cut-away").waitFor();
  const n = Number(/b(\d+)/.exec(at)[1]);
  await arrived(n);
  assert.equal(label(n).dmg_class, "major");
  await press("s");
});

await step("label: keys faster than the screen go to the building that is next, with nothing of the last one", async () => {
  const n = Number(/b(\d+)/.exec(await text("#building"))[1]);
  await page.evaluate(async () => {
    // Between two keys only what the page does before it paints.
    for (const key of ["ArrowRight", "2", "1"]) {
      window.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      for (let i = 0; i < 20; i++) await Promise.resolve();
    }
  });
  await current(`b${n + 2}`);
  await arrived(n + 1);
  assert.deepEqual([label(n).dmg_class, label(n + 1).dmg_class], ["major", "minor"]);
  assert.ok(label(n).shift, "the nudge is the first one's");
  assert.equal(label(n + 1).shift ?? null, null, "and not the second one's");
});

await step("map: predict all with progress, then themes, filters and counts", async () => {
  await visit("/demo/map");
  await page.locator("#predict").focus();
  mock.hold = true;
  await press("Enter");
  await page.locator("progress").first().waitFor();
  mock.hold = false;
  await waitText("#status", `${buildings} buildings in view`);
  await page.locator("#legend tbody tr").nth(4).waitFor();
  const rows = () => page.locator("#legend tbody tr").evaluateAll((trs) => trs.map((r) => r.children[1].textContent.trim()));
  const perClass = names.map((c) => Array.from({ length: buildings }, (_, k) => truth(k + 1)).filter((x) => x === c).length);
  assert.deepEqual((await rows()).slice(0, 4), perClass.map(String));
  await look("6_map");
  await page.locator(".filters summary").click();
  await page.locator("#filter-class").selectOption("major");
  await waitText("#status", `${perClass[2]} buildings`);
  await page.locator("#filter-class").selectOption("");
  await page.locator("#filter-p").fill("0.5");
  const over = Array.from({ length: buildings }, (_, k) => probability(k + 1)).filter((p) => p >= 0.5).length;
  await waitText("#status", `${over} buildings`);
  await page.locator("#filter-p").fill("0");
  await waitText("#status", `${buildings} buildings`);
  await page.locator("#theme").selectOption("prob");
  const bins = [0, 0, 0, 0, 0];
  for (let i = 1; i <= buildings; i++) bins[Math.min(4, Math.floor(probability(i) * 5))]++;
  await page.waitForFunction(() => document.querySelectorAll("#legend tbody tr").length === 5);
  assert.deepEqual(await rows(), bins.map(String));
  await look("6_probability");
  await page.locator("#theme").selectOption("shift");
  await waitText("#panel", "Arrows from the footprint");
});

await step("label on the map: chosen in the list by keyboard, decided by a digit", async () => {
  await visit("/demo/label");
  await page.locator("#map-mode").click();
  const box = page.locator("#label-list label", { hasText: /^\s*b30\b/ }).locator("input");
  await box.focus();
  await press("Space");
  await waitText("#panel", "Chosen buildings: 1");
  await page.locator("#chosen-title").focus();
  await press("Space");
  assert.equal(await page.locator("#outlines").isChecked(), false);
  await press("Space");
  assert.ok(await page.locator("#outlines").isChecked());
  const before = mock.labels.size;
  await press("1");
  await arrived(before + 1);
  assert.equal(label(30).dmg_class, "minor");
  await page.locator("#label-list label", { hasText: /^\s*b30\b.*Minor/s }).waitFor();
  await look("7_label_map");
});

await step("review: a list, the model's proposal accepted by one key, everything logged", async () => {
  await visit("/demo/review");
  await current("b41");
  assert.deepEqual(await page.locator(".modes button").evaluateAll((l) => l.map((b) => b.dataset.list)), ["uncertain", "large", "contradiction", "disagreement", "alignment"]);
  await waitText(".about", probability(41).toFixed(3));
  await press("a");
  await current("b42");
  await press("4", "0");
  await current("b43");
  await eventually(() => label(42));
  assert.deepEqual([label(41).dmg_class, label(42).reason], [truth(41), "unclear"]);
  await page.locator(".log summary").click();
  await page.locator("#log li", { hasText: "b42" }).first().waitFor();
  await look("8_review");
});

await step("totals are refused with the server's reason before there is a sample", async () => {
  await visit("/demo/report");
  await waitText("#refused", "fewer than 5");
  await look("9_refused");
});

await step("validate: blind, in drawn order, nothing left out", async () => {
  await visit("/demo/validate");
  await current(`b${buildings}`);
  const page_text = await text("main");
  assert.ok(!/Model:|probab/i.test(page_text), "nothing is said of the prediction");
  await press("Enter");
  await page.waitForTimeout(150);
  await current(`b${buildings}`);
  await look("10_validate");
  for (let i = buildings; i > buildings - 10; i--) {
    await current(`b${i}`);
    await press(String(names.indexOf(truth(i))));
  }
  await eventually(() => mock.of("validate").length >= 10);
  const sent = mock.of("validate");
  assert.deepEqual(sent.map((l) => [l.bldg_id, l.draw, l.dmg_class]), Array.from({ length: 10 }, (_, k) => [`b${buildings - k}`, k + 1, truth(buildings - k)]));
  await page.locator("#half-width").fill("0.1");
  await waitText("#sample-plan", "needed: about 20");
});

await step("report: totals with intervals, per class and zone, and the way to the printed report", async () => {
  await visit("/demo/report");
  const drawn = Array.from({ length: 10 }, (_, k) => truth(buildings - k));
  const damaged = drawn.filter((c) => c === "major" || c === "destroyed").length;
  await waitText("#total-damaged", `Damaged: ${(damaged * buildings) / 10} (${damaged} – ${buildings - 10 + damaged}) of ${buildings} buildings`);
  const classes = await page.locator("#totals tbody tr").evaluateAll((trs) => trs.map((r) => Number(r.children[1].textContent)));
  assert.deepEqual(classes, [...names, "unknown"].map((c) => drawn.filter((x) => x === c).length));
  assert.match(await page.locator("#open-report").getAttribute("href"), /report\.html\?title=Demo%20tornado&lang=en&paper=a4$/);
  assert.match(await text("#zones"), /North/);
  await look("11_report");
});

await step("share: addresses that begin where this page came from", async () => {
  await visit("/demo/share");
  await page.locator(".address input").first().waitFor();
  const values = await page.locator(".address input").evaluateAll((l) => l.map((i) => i.value));
  assert.deepEqual(values, [`${base}/`, `${base}/#/demo/map`, ...["pre", "post", "damage"].map((l) => `${base}/tiles/demo/${l}/{z}/{x}/{y}.png`)]);
  await look("12_share");
});

await step("a slow link gets small pictures and none ahead", async () => {
  await page.locator("#low-bandwidth").check();
  await page.reload();
  mock.askedFor.length = 0;
  await visit("/demo/label");
  await eventually(() => mock.askedFor.length >= 2);
  await page.waitForTimeout(300); // and no more than these two
  assert.equal(mock.askedFor.length, 2);
  assert.ok(mock.askedFor.every((u) => u.includes("px=128")));
  await page.locator("#low-bandwidth").uncheck();
});

for (const tag of ["ar", "fr", "es"]) {
  await step(`${tag}: every step in its own language and direction, also on a tablet`, async () => {
    await Promise.all([page.waitForEvent("load"), page.locator("#language").selectOption(tag)]);
    for (const [width, height] of tag === "ar" ? [[1280, 720], [768, 1024]] : [[820, 1180], [1024, 768], [1280, 720]]) {
      await page.setViewportSize({ width, height });
      const all = ["sources", "checks", "label", "map", "review", "validate", "report", "share"];
      for (const s of tag !== "ar" ? ["label", "map", "report"] : width === 1280 ? all : ["checks", "label", "map"]) {
        await visit(`/demo/${s}`);
        await page.waitForFunction((n) => document.querySelector("[aria-current]")?.textContent.includes(n), catalogues[tag].get(`step_${s}`));
        await page.waitForFunction((word) => !document.querySelector("main").innerText.includes(word), catalogues[tag].get("loading"));
        assert.equal(await page.evaluate(() => `${document.documentElement.lang} ${document.documentElement.dir}`), `${tag} ${tag === "ar" ? "rtl" : "ltr"}`);
        await fits(`${s} at ${width}`);
        if (shots) await page.screenshot({ path: `${shots}/${tag}_${width}_${s}.png` });
        const english = new Set([...catalogues.en].filter(([k, v]) => v !== catalogues[tag].get(k) && !holes(v)).map(([, v]) => v));
        for (const other of catalogues[tag].values()) english.delete(other); // a word may be the same in two places
        const left = await page.evaluate(() => document.body.innerText.split("\n").map((x) => x.trim()));
        assert.deepEqual(left.filter((x) => english.has(x)), [], `${s} in ${tag}`);
        if (tag === "ar" && width === 1280 && ["label", "map"].includes(s)) await look(`ar_${s}`);
      }
    }
  });
}

await step("a server with tokens lets nobody in without one", async () => {
  await page.setViewportSize({ width: 1280, height: 720 });
  await Promise.all([page.waitForEvent("load"), page.locator("#language").selectOption("en")]);
  mock.role = "none";
  await page.reload();
  await page.getByLabel("Access token").fill("wrong");
  await press("Enter");
  await waitText("main", "the token is not known");
  await look("13_sign_in");
  await page.getByLabel("Access token").fill("open sesame");
  await press("Enter");
  await page.locator("header").getByRole("button", { name: "Sign out ana" }).waitFor();
});

await step("no error on the console, no request left this machine", () => {
  assert.deepEqual(problems.filter((p) => !/ERR_(CONNECTION|EMPTY|ABORTED|INCOMPLETE)/.test(p)), []);
  assert.deepEqual(requests.filter((u) => !u.startsWith(`${base}/`) && !u.startsWith("data:") && !u.startsWith("blob:")), []);
});

await step("the first load stays below 300 KB compressed", () => {
  const bytes = ["index.html", "app.js", "app.css"].reduce((sum, f) => sum + readFileSync(join(dist, `${f}.gz`)).length, 0);
  assert.ok(bytes < 300 * 1024, `${bytes} bytes`);
  console.log(`     ${bytes} bytes`);
});

await browser.close();
await mock.stop();
rmSync(profile, { recursive: true, force: true });
console.log(`${failed} failed`);
process.exit(failed ? 1 : 0);
