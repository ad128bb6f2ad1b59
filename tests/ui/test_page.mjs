// SPDX-License-Identifier: Apache-2.0
// Drives the page. Expected numbers follow from the fixture's formula (tests/http/make_fixture.sh), not from the server.
// usage: node test_page.mjs BASE CHROMIUM PROFILE [SCREENSHOTS]
import { chromium } from "playwright-core";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";

const [base, executablePath, profile, shots] = process.argv.slice(2);
const browser = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 1280, height: 720 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage();
const problems = [];
const requests = [];
page.on("console", (m) => ["error", "warning"].includes(m.type()) && problems.push(`console: ${m.text()}`));
page.on("pageerror", (e) => problems.push(`page: ${e.message}`));
page.on("requestfailed", (r) => problems.push(`request: ${r.url()} ${r.failure()?.errorText}`));
browser.on("request", (r) => requests.push(r.url()));
page.on("response", (r) => r.status() >= 400 && problems.push(`answer: ${r.status()} ${r.url()}`));

let failed = 0;
async function step(name, body) {
  try {
    await body();
    console.log(`ok   ${name}`);
  } catch (e) {
    failed++;
    console.log(`FAIL ${name}: ${e.message}`);
  }
}
const shot = (name) => shots && page.screenshot({ path: `${shots}/${name}.png` });
const text = async (selector) => (await page.locator(selector).innerText()).trim();

const axe = readFileSync("node_modules/axe-core/axe.min.js", "utf8");
/** No fault by WCAG 2.2 A and AA. */
async function accessible() {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] }));
  assert.ok(found.passes.length > 5, "axe has looked");
  assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 100)).join(" | ")}`), []);
}
const wait = (fn, arg) => page.waitForFunction(fn, arg, { timeout: 30000, polling: 100 });

// What the fixture says of building n (1..1225).
function truth(n) {
  const i = (n - 1) % 35, j = Math.floor((n - 1) / 35), level = (7 * i + 3 * j) % 5;
  const p = level * 0.3 + (n % 97) / 1000;
  return {
    level, p, name: ["None visible", "Minor", "Major", "Destroyed", "Cannot tell"][level],
    status: level === 4 ? "cannot tell" : n % 10 === 0 ? "too close to call" : "decided",
  };
}

// Pixels of the map as the screen shows them; the PNG is 8-bit RGB(A) without interlace, as Chromium writes it.
async function pixels() {
  const png = await page.locator("#stage").screenshot();
  let width = 0, height = 0, channels = 0;
  const data = [];
  for (let at = 8; at < png.length;) {
    const size = png.readUInt32BE(at), type = png.toString("latin1", at + 4, at + 8);
    if (type === "IHDR") {
      width = png.readUInt32BE(at + 8);
      height = png.readUInt32BE(at + 12);
      channels = png[at + 17] === 6 ? 4 : 3;
    }
    if (type === "IDAT") data.push(png.subarray(at + 8, at + 8 + size));
    at += 12 + size;
  }
  const raw = inflateSync(Buffer.concat(data)), row = width * channels, out = Buffer.alloc(row * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (row + 1)];
    for (let x = 0; x < row; x++) {
      const left = x >= channels ? out[y * row + x - channels] : 0;
      const up = y ? out[(y - 1) * row + x] : 0;
      const corner = y && x >= channels ? out[(y - 1) * row + x - channels] : 0;
      const pa = Math.abs(up - corner), pb = Math.abs(left - corner), pc = Math.abs(left + up - 2 * corner);
      const paeth = pa <= pb && pa <= pc ? left : pb <= pc ? up : corner;
      const guess = [0, left, up, (left + up) >> 1, paeth][filter];
      out[y * row + x] = raw[y * (row + 1) + 1 + x] + guess;
    }
  }
  return { png, width, height, at: (x, y) => [...out.subarray(y * row + x * channels, y * row + x * channels + 3)] };
}
/** The map's pixels as they are after the last command: drawn, and no tile fading in any more. */
async function still() {
  const frame = () => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await frame();
  for (let last = await pixels(), end = Date.now() + 20000; ; ) {
    await frame();
    const now = await pixels();
    if (now.png.equals(last.png)) return now;
    assert.ok(Date.now() < end, "the map comes to rest");
    last = now;
  }
}
// Mean colour of a share of the map's width, all its height.
function mean(p, from, to) {
  const sum = [0, 0, 0];
  let n = 0;
  for (let y = 60; y < p.height - 60; y += 2)
    for (let x = Math.round(from * p.width); x < to * p.width; x += 2, n++) p.at(x, y).forEach((v, k) => (sum[k] += v));
  return sum.map((v) => v / n);
}
const distance = (a, b) => Math.hypot(...a.map((v, k) => v - b[k]));

await step("the page opens and loads every building of the fixture", async () => {
  await page.goto(`${base}/`, { waitUntil: "networkidle" });
  await wait(() => document.querySelector("#status")?.textContent.startsWith("1,225 "));
  await accessible();
  assert.equal(await page.title(), "demo – aftermap");
  assert.equal(await page.locator("#status").innerText(), "1,225 buildings in view.");
});
await shot("opened");

await step("the first Tab reaches the way past the map, and everything has a name", async () => {
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.className), "skip");
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, a[href], [tabindex='0']")]
      .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.title || e.labels?.length))
      .map((e) => e.outerHTML.slice(0, 80)));
  assert.deepEqual(nameless, []);
});

await step("the legend counts each class", async () => {
  const counts = {};
  let open = 0;
  for (let n = 1; n <= 1225; n++) {
    counts[truth(n).name] = (counts[truth(n).name] ?? 0) + 1;
    open += truth(n).status === "too close to call";
  }
  const rows = await page.locator("#legend tbody tr").evaluateAll((trs) => trs.map((r) => [...r.children].map((c) => c.textContent.trim())));
  assert.deepEqual(rows, ["None visible", "Minor", "Major", "Destroyed", "Cannot tell"]
    .map((k) => [k, String(counts[k]), String(counts[k])]).concat([["of these, too close to call", String(open), String(open)]]));
});

await step("the list shows the likeliest damaged first", async () => {
  const first = await page.locator("#list button").first().innerText();
  let best = 1;
  for (let n = 1; n <= 1225; n++) if (truth(n).level < 4 && truth(n).p > truth(best).p) best = n;
  assert.match(first.replace(/\s+/g, " "), new RegExp(`b\\d+ Destroyed ${truth(best).p.toFixed(3)}`));
});

// Where building n lies on the screen: the page fits the collection's extent into its view (padding of map.ts).
const stage = await page.locator("#stage").boundingBox();
async function place(n) {
  const all = await (await fetch(`${base}/collections/demo.buildings`)).json();
  const [west, south, east, north] = all.extent.spatial.bbox[0];
  const item = await (await fetch(`${base}/collections/demo.buildings/items/${n}`)).json();
  const ring = item.geometry.coordinates[0].slice(0, 4);
  const lon = ring.reduce((s, p) => s + p[0], 0) / 4, lat = ring.reduce((s, p) => s + p[1], 0) / 4;
  const my = (l) => Math.log(Math.tan(Math.PI / 4 + (l * Math.PI) / 360));
  const w = ((east - west) * Math.PI) / 180, h = my(north) - my(south);
  const scale = Math.min((stage.width - 48) / w, (stage.height - 96) / h);
  const cx = stage.x + stage.width / 2, cy = stage.y + 56 + (stage.height - 96) / 2;
  return [cx + (((lon - (west + east) / 2) * Math.PI) / 180) * scale, cy - (my(lat) - (my(north) + my(south)) / 2) * scale];
}
async function detail(key) {
  return text(`#details dd[data-key="${key}"]`);
}
async function checkDetails(n) {
  const t = truth(n);
  assert.equal(await text("#details-title"), `Building b${n}`);
  assert.equal(await detail("damageClass"), t.name);
  assert.equal(await detail("status"), t.status);
  assert.equal(await detail("area"), "25 m²");
  if (t.level === 4) {
    assert.equal(await detail("pDamaged"), "not given");
    assert.equal(await detail("reason"), "no image there");
  } else {
    assert.equal(await detail("pDamaged"), t.p.toFixed(3));
    assert.equal(await text('#details li[data-key="p_none"] .count'), (1 - t.p).toFixed(3));
    assert.equal(await text('#details li[data-key="p_destr"] .count'), (t.p / 2 + 1e-9).toFixed(3));
  }
}

for (const n of [613, 40, 1000, 648]) {
  await step(`a click on building ${n} (${truth(n).name}) opens its numbers`, async () => {
    const [x, y] = await place(n);
    await page.mouse.click(x, y);
    await page.waitForFunction((id) => document.querySelector("#details-title")?.textContent.endsWith(` b${id}`), n, { timeout: 30000 });
    await checkDetails(n);
  });
}
await shot("chosen");
await step("nothing is wrong with a chosen building by WCAG", accessible);

await step("a building is chosen from the list by keyboard alone", async () => {
  await page.locator("#list button").nth(2).focus();
  const fid = Number(await page.locator("#list button").nth(2).getAttribute("data-fid"));
  await page.keyboard.press("Enter");
  await checkDetails(fid);
  assert.equal(await page.evaluate(() => document.activeElement?.id), "details-title");
  await page.locator("#details .close").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#details dl").count(), 0);
});

await step("the dividing line moves by keyboard and uncovers the image before", async () => {
  await page.locator("#opacity").focus();
  await page.keyboard.press("Home"); // no fill: the images show through
  await page.locator("#swipe").focus();
  await page.keyboard.press("Home");
  assert.equal(await page.locator("#swipe").inputValue(), "0");
  const allAfter = await still();
  await page.keyboard.press("End");
  assert.equal(await page.locator("#swipe").getAttribute("aria-valuetext"), "100 % before");
  const allBefore = await still();
  await page.locator("#swipe").fill("50");
  const half = await still();
  const left = [0.3, 0.45], right = [0.55, 0.7];
  assert.ok(distance(mean(allAfter, ...left), mean(allBefore, ...left)) > 15, "the two images differ");
  assert.ok(distance(mean(half, ...left), mean(allBefore, ...left)) < 3, "left of the line is before");
  assert.ok(distance(mean(half, ...right), mean(allAfter, ...right)) < 3, "right of the line is after");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("#swipe").inputValue(), "51");
});
await shot("swipe");

await step("the fill's strength shows", async () => {
  const without = mean(await still(), 0.55, 0.7);
  await page.locator("#opacity").focus();
  await page.keyboard.press("End");
  assert.ok(distance(without, mean(await still(), 0.55, 0.7)) > 10);
});

await step("comparing can be switched off", async () => {
  await page.locator("#compare").focus();
  await page.keyboard.press("Space");
  assert.equal(await page.locator("#swipe").isHidden(), true);
  await page.keyboard.press("Space");
  assert.equal(await page.locator("#swipe").isVisible(), true);
});

await step("the map moves and zooms by keyboard, letters appear, counts follow the view", async () => {
  await page.locator("#map").focus();
  const count = async () => Number.parseInt((await text("#status")).replace(",", ""), 10);
  for (let i = 0; i < 3; i++) {
    const now = await count();
    await page.keyboard.press("+");
    await wait((n) => Number.parseInt(document.querySelector("#status").textContent.replace(",", ""), 10) < n, now);
  }
  assert.ok((await count()) < 400);
  const shown = () => page.locator("#list button").evaluateAll((b) => b.map((x) => x.dataset.fid).sort().join(" "));
  const before = await shown();
  for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowLeft");
  await wait((was) => {
    const now = [...document.querySelectorAll("#list button")].map((x) => x.dataset.fid).sort().join(" ");
    return now && now !== was;
  }, before);
});
await shot("zoomed");

await step("a building is found by its id, and a place by its latitude and longitude", async () => {
  await page.locator("#find").fill("b40");
  await page.keyboard.press("Enter");
  await wait(() => document.querySelector("#details-title")?.textContent.endsWith(" b40"));
  await checkDetails(40);
  const [lat, lon] = (await detail("position")).split(", ").map(Number);
  const [ring] = (await (await fetch(`${base}/collections/demo.buildings/items/40`)).json()).geometry.coordinates;
  assert.ok(Math.abs(lon - (ring[0][0] + ring[2][0]) / 2) < 2e-5 && Math.abs(lat - (ring[0][1] + ring[2][1]) / 2) < 2e-5);
  const seen = () => page.locator("#list button").evaluateAll((b) => b.map((x) => Number(x.dataset.fid)));
  assert.ok((await seen()).includes(40));
  const far = (await (await fetch(`${base}/collections/demo.buildings/items/1225`)).json()).geometry.coordinates[0][0];
  await page.locator("#find").fill(`${far[1]}, ${far[0]}`);
  await page.keyboard.press("Enter");
  await wait(() => [...document.querySelectorAll("#list button")].some((b) => b.dataset.fid === "1225"));
  assert.ok(!(await seen()).includes(40));
  await page.locator("#find").fill("nobody");
  await page.keyboard.press("Enter");
  await wait(() => document.querySelector(".find")?.textContent.includes("Nothing is there"));
});

await step("downloads are the server's files", async () => {
  const links = await page.locator("#files a").evaluateAll((a) => a.map((x) => x.href));
  assert.deepEqual(links.map((l) => l.split("/").pop()), ["damage.tif", "prob.tif", "damage.gpkg", "damage.geojson", "damage.csv", "run.json",
    "scenes.gpkg", "scenes.geojson", "scenes.csv"]);
  for (const l of links) assert.equal((await fetch(l, { method: "HEAD" })).status, 200);
});

await step("scale bar and attribution are there", async () => {
  assert.match(await text(".ol-scale-line"), /\d+ m/);
  assert.match(await text(".ol-attribution"), /not verified on the ground/);
});

await step("a map without images says so and still works", async () => {
  const all = () => wait(() => document.querySelector("#status")?.textContent.startsWith("1,225 "));
  // To and fro: without pictures the map may be drawn in one frame, before which no move is told.
  for (let i = 0; i < 5; i++) {
    if (i) {
      await page.locator("#picker").selectOption("demo");
      await wait(() => !document.querySelector("#notes"));
      await all();
    }
    await page.locator("#picker").selectOption("bare");
    await wait(() => document.querySelector("#notes")?.textContent.includes("cannot be shown"));
    assert.equal(await page.locator("#swipe").isHidden(), true);
    await all();
  }
});

await step("a narrow screen stacks the page", async () => {
  await page.setViewportSize({ width: 700, height: 900 });
  await wait(() => innerWidth === 700 && document.querySelector("#panel").getBoundingClientRect().left < 1);
  await accessible();
  const [map, panel] = [await page.locator("#stage").boundingBox(), await page.locator("#panel").boundingBox()];
  assert.ok(panel.y >= map.y + map.height - 1);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 700);
});
await shot("narrow");

await step("no error on the console, no failed request", async () => {
  // A tile that a pan made needless is cancelled by the browser: that is no failure.
  assert.deepEqual(problems.filter((p) => !p.includes("ERR_ABORTED")), []);
});
await step("no request left this machine", async () => {
  assert.ok(requests.length > 20);
  assert.deepEqual(requests.filter((u) => !u.startsWith(`${base}/`) && !u.startsWith("data:") && !u.startsWith("blob:")), []);
});
await step("the first load stays below 300 KB", async () => {
  let bytes = 0;
  for (const path of ["/?f=html", "/ui/app.js", "/ui/app.css"]) {
    const r = await fetch(base + path, { headers: { "Accept-Encoding": "gzip" } });
    assert.equal(r.headers.get("content-encoding"), "gzip");
    bytes += Number(r.headers.get("content-length"));
  }
  assert.ok(bytes < 300 * 1024, `${bytes} bytes`);
  console.log(`     ${bytes} bytes`);
});

await browser.close();
console.log(`${failed} failed`);
process.exit(failed ? 1 : 0);
