// SPDX-License-Identifier: Apache-2.0
// A stand-in for the server, for tests of the page alone: the answers' shapes are those of the interface, the contents follow
// from simple formulas that the test knows too, and it can misbehave on command (drop every connection, change a label behind
// the page's back, break an upload). It keeps what it was sent, so that the test can look at what really arrived.
// The page comes from DIST as the build wrote it, under the server's own Content-Security-Policy.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { deflateSync, gunzipSync } from "node:zlib";

const policy = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
export const buildings = 60;
export const names = ["none", "minor", "major", "destroyed"];
/** What building i is, and what the model makes of it. */
export const truth = (i) => names[(i * 7) % 4];
export const probability = (i) => i / buildings;

/* ---- pictures ----------------------------------------------------------------------------------------------------------- */

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});
const crc = (b) => ~b.reduce((c, x) => table[(c ^ x) & 255] ^ (c >>> 8), 0xffffffff) >>> 0;
function part(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(8 + body.length);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc(body), 4 + body.length);
  return out;
}
/** A square PNG of n pixels; colour(x, y) gives [r, g, b]. */
function png(n, colour) {
  const raw = Buffer.alloc(n * (1 + 3 * n));
  for (let y = 0; y < n; y++) for (let x = 0; x < n; x++) raw.set(colour(x, y), y * (1 + 3 * n) + 1 + 3 * x);
  const head = Buffer.alloc(13);
  head.writeUInt32BE(n, 0);
  head.writeUInt32BE(n, 4);
  head.set([8, 2], 8);
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), part("IHDR", head), part("IDAT", deflateSync(raw)), part("IEND", Buffer.alloc(0))]);
}

/* ---- the server --------------------------------------------------------------------------------------------------------- */

export class Mock {
  constructor(dist, port) {
    this.dist = dist;
    this.port = port;
    this.state = null; // of the assessment "demo"; null: it is not there
    this.created = null; // what it was created from
    this.labels = new Map();
    this.log = [];
    this.jobs = [];
    this.uploads = new Map();
    this.models = [];
    this.seq = 0;
    this.streams = new Set();
    this.breakUploads = 0; // so many parts fail
    this.askedFor = []; // chip addresses
    this.hold = false; // jobs begin and get no further
    this.opening = false; // the assessment is not open yet, as just after a start
    this.role = ""; // of who has signed in; "": nobody has to
    this.zones = null;
  }

  start() {
    this.server = createServer((q, r) => void this.answer(q, r));
    return new Promise((resolve) => this.server.listen(this.port, "127.0.0.1", resolve));
  }

  /** As when the process is killed: connections break, nothing is told. What was acknowledged stays. */
  stop() {
    this.streams.clear();
    return new Promise((resolve) => {
      this.server.close(resolve);
      this.server.closeAllConnections();
    });
  }

  of(purpose) {
    return [...this.labels.values()].filter((l) => l.purpose === purpose);
  }

  set(id, label) {
    const l = { bldg_id: id, reason: "", by: "", ...label, updated: "2026-01-02T03:04:05Z", seq: ++this.seq, etag: `"${this.seq}"` };
    this.labels.set(id, l);
    this.log.push({ ...l, action: "set", previous: null });
    return l;
  }

  building(i) {
    return {
      bldg_id: `b${i}`, fid: i, lon: 10 + (i % 10) * 5e-4, lat: 45 + Math.floor(i / 10) * 5e-4, area_m2: 80 + i, page: i, size_m: 32, split: "train",
      outline: [[[-5, -4], [5, -4], [5, 4], [-5, 4], [-5, -4]]], shift: { x: 0.5, y: -0.75, q: 0.8, by: "measured" },
      label: this.labels.get(`b${i}`) ?? null, prediction: { p_dmg: probability(i), dmg_class: truth(i), entropy: 0.6 },
    };
  }

  assessment() {
    const layer = (id, date) => ({ id, available: true, ...(date && { date }) });
    return {
      id: "demo", title: this.created?.title ?? "", event: this.created?.event ?? null, cut: 2, state: this.opening ? "importing" : this.state, etag: `"a${this.seq}"`,
      pre: this.created?.pre, post: this.created?.post, footprints: this.created?.footprints, zones: this.zones, aoi: this.created?.aoi ?? null, buildings,
      n_labels: { train: this.of("train").length, validate: this.of("validate").length }, bbox: [10, 45, 10.005, 45.003],
      collection: this.state === "predicted" ? "demo.buildings" : null, revision: this.state,
      layers: [layer("pre", "2011-05-01"), layer("post", "2011-05-24"), layer("damage")],
      links: [{ rel: "enclosure", title: "Damage", type: "x", href: `http://127.0.0.1:${this.port}/assessments/demo/exports/damage.gpkg` }],
    };
  }

  run(processID) {
    const job = { jobID: `j${this.jobs.length + 1}`, type: "process", processID, assessment: "demo", status: "running", progress: 0, message: "", eta_s: 4, created: new Date().toISOString(), finished: null };
    this.jobs.unshift(job);
    const tell = () => this.streams.forEach((s) => s.write(`event: status\ndata: ${JSON.stringify(job)}\n\n`));
    const timer = setInterval(() => {
      if (job.status === "dismissed") return clearInterval(timer), tell();
      if (this.hold && job.progress) return;
      job.progress += 25;
      job.eta_s = (100 - job.progress) / 25;
      if (job.progress === 100) {
        clearInterval(timer);
        job.status = "successful";
        if (processID === "import") this.state = "ready";
        if (processID === "predict") this.state = "predicted";
        if (processID === "train") this.models.push({ model: `m${this.models.length}`, n_labels: this.of("train").length, f1: 0.6, f1_low: 0.5, f1_high: 0.7, ap: 0.65, accuracy: 0.7, changed_share: 0.1, time: job.created });
      }
      tell();
    }, 150);
    tell();
    return job;
  }

  async answer(q, r) {
    const url = new URL(q.url, "http://mock");
    const received = [];
    for await (const c of q) received.push(c);
    const body = Buffer.concat(received);
    const end = (status, type, bytes, more = {}) => {
      r.writeHead(status, { "Content-Type": type, "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", ...more });
      r.end(bytes);
    };
    const json = (v, status = 200, more = {}) => end(status, "application/json", v === null ? "" : JSON.stringify(v), more);
    const problem = (status, detail, more = {}) => end(status, "application/problem+json", JSON.stringify({ status, detail }), more);
    const path = decodeURIComponent(url.pathname);
    if (path === "/") return end(200, "text/html", gunzipSync(readFileSync(`${this.dist}/index.html.gz`)));
    if (path.startsWith("/ui/")) return end(200, path.endsWith(".css") ? "text/css" : "text/javascript", readFileSync(`${this.dist}/${path.slice(4)}.gz`), { "Content-Encoding": "gzip" });
    for (const [method, pattern, handle] of routes) {
      const found = method === q.method && pattern.exec(path);
      if (found) return handle.call(this, { args: found.slice(1), query: url.searchParams, body, headers: q.headers, end, json, problem, r, q });
    }
    problem(404, `nothing is at ${path}`);
  }
}

/* ---- routes ------------------------------------------------------------------------------------------------------------- */

const square = (lon, lat, d) => [[[lon - d, lat - d], [lon + d, lat - d], [lon + d, lat + d], [lon - d, lat + d], [lon - d, lat - d]]];
const perClass = (list) => Object.fromEntries([...names, "unknown"].map((c) => [c, list.filter((l) => l.dmg_class === c).length]));

const routes = [
  ["GET", /^\/session$/, function ({ json }) {
    json({ role: this.role || "admin", name: "", auth: this.role !== "" });
  }],
  ["POST", /^\/session$/, function ({ json, problem, body }) {
    if (JSON.parse(body).token !== "open sesame") return problem(401, "the token is not known");
    this.role = "editor";
    json({ role: this.role, name: "ana", auth: true });
  }],
  ["GET", /^\/assessments$/, function ({ json }) {
    json({ assessments: this.state ? [this.assessment()] : [], data_root: true, read_only: false, disk_free_bytes: 5e10, version: "0.1.0" });
  }],
  ["POST", /^\/assessments$/, function ({ json, body }) {
    this.created = JSON.parse(body);
    this.zones = this.created.zones ?? null;
    this.state = "importing";
    json({ ...this.assessment(), job: this.run("import") }, 201, { Location: "/assessments/demo" });
  }],
  ["GET", /^\/assessments\/demo$/, function ({ json, problem }) {
    if (this.state) json(this.assessment());
    else problem(404, "no such assessment");
  }],
  ["PATCH", /^\/assessments\/demo$/, function ({ json, problem, body, headers }) {
    if (headers["if-match"] !== this.assessment().etag) return problem(412, "changed meanwhile");
    this.zones = JSON.parse(body).zones;
    json(this.assessment());
  }],
  ["GET", /^\/files$/, ({ json, query }) => {
    const file = (name, kind, bytes) => ({ name, ref: `${query.get("path") ? "scenes/" : ""}${name}`, kind, bytes });
    json({ path: query.get("path"), entries: query.get("path") ? [file("pre.tif", "raster", 1137819), file("wrong.tif", "raster", 5)] : [file("scenes", "dir", null), file("buildings.geojson", "vector", 136323), file("communes.geojson", "vector", 4711)] });
  }],
  ["GET", /^\/files\/info$/, ({ json, query }) => {
    const ref = query.get("ref");
    const raster = { ref, kind: "raster", driver: "GTiff", crs: "EPSG:32615", gsd_m: 0.6, width: 1000, height: 800, bands: 3, bit_depth: 8, nodata: null, date: "2011-05-24", problem: null };
    if (ref.endsWith("wrong.tif")) return json({ ...raster, bbox: null, problem: "the file is not a GeoTIFF" });
    if (ref.endsWith("tif") || ref.startsWith("u-")) return json({ ...raster, bbox: ref.endsWith("pre.tif") ? [10, 45, 10.005, 45.003] : [10.0005, 45, 10.0055, 45.003] });
    json({ ref, kind: "vector", driver: "GeoJSON", crs: "EPSG:4326", bbox: [10, 45.0005, 10.002, 45.0025], problem: null, layers: [{ name: "buildings", n: buildings, geometry: "Polygon", fields: [{ name: "id", type: "String" }, { name: "nom", type: "String" }], suggested_id_field: "id" }] });
  }],
  ["GET", /^\/files\/thumbnail\.png$/, ({ end }) => end(200, "image/png", png(64, (x, y) => [x * 3, y * 3, 120]))],
  ["POST", /^\/uploads$/, function ({ json, body }) {
    const u = { id: `u-${this.uploads.size + 1}`, ...JSON.parse(body), offset: 0, chunk_bytes: 100000, complete: false, ref: null, problem: null, parts: 0 };
    this.uploads.set(u.id, u);
    json(u, 201);
  }],
  ["GET", /^\/uploads\/(.*)$/, function ({ json, args }) {
    json(this.uploads.get(args[0]));
  }],
  ["PATCH", /^\/uploads\/(.*)$/, function ({ json, problem, args, headers, body, r }) {
    const u = this.uploads.get(args[0]);
    if (u.offset > 0 && this.breakUploads-- > 0) return r.destroy();
    if (Number(/^bytes (\d+)-/.exec(headers["content-range"])?.[1]) !== u.offset) return problem(409, "not the offset");
    u.offset += body.length;
    u.parts++;
    if (u.offset === u.bytes) Object.assign(u, { complete: true, ref: u.id });
    json(null, 204);
  }],
  ["GET", /^\/assessments\/demo\/checks$/, ({ json }) => {
    const field = Array.from({ length: 80 }, (_, i) => ({ lon: 10 + (i % 10) * 5e-4, lat: 45 + Math.floor(i / 10) * 4e-4, shift_x: 0.5, shift_y: -0.7, shift_q: (i % 9) / 9 }));
    const image = { gsd_m: 0.6, bands: 3, date: "2011-05-01", crs: "EPSG:26915", files: 1 };
    json({
      overlap_share: 0.93, footprints: { n: 63, kept: buildings, reasons: { nodata: 3 } }, images: { pre: image, post: { ...image, date: null } }, blank_share: 0.01,
      alignment: { aligned: true, chips: buildings, measured: 50, field: 8, skipped: 2, hand: 0, accepted_share: 0.96, median_m: 1.1, p95_m: 2.6, max_m: 4.1, gsd_m: 0.5, verdict: "pass", arrows: field,
        histogram: { step_m: 0.25, count: [1, 4, 9, 14, 12, 9, 5, 3, 2, 1] }, worst: [1, 2, 3].map((i) => ({ fid: i, bldg_id: `b${i}`, shift_x: 0, shift_y: 0, shift_q: 0.04, shift_by: "skipped" })) },
      verdicts: [["overlap", "pass"], ["dates", "warn"], ["gsd", "fail"], ["alignment", "unknown"]].map(([check, verdict]) => ({ check, verdict, detail: "-" })),
    });
  }],
  ["GET", /^\/assessments\/demo\/buildings\/b(\d+)$/, function ({ json, args }) {
    json(this.building(Number(args[0])));
  }],
  ["GET", /^\/assessments\/demo\/chips\/b(\d+)\/(pre|post)\.png$/, function ({ end, args, query, q }) {
    this.askedFor.push(q.url);
    const px = Number(query.get("px"));
    const house = args[1] === "pre" ? [190, 120, 90] : [70, 60, 160];
    end(200, "image/png", png(px, (x, y) => (Math.abs(x - px / 2) < px / 5 && Math.abs(y - px / 2) < px / 6 ? house : [90, 130, 80])));
  }],
  ["GET", /^\/assessments\/demo\/queue$/, function ({ json, query }) {
    const items = [];
    const blind = query.get("mode") === "validate";
    // Training goes up from 1, the blind draw down from the end, so that the two do not meet.
    for (let k = 1; k <= buildings && items.length < Number(query.get("n")); k++) {
      const i = blind ? buildings + 1 - k : k;
      if (!this.labels.has(`b${i}`)) items.push({ ...this.building(i), why: { code: "seed", text: "-", value: null }, purpose: blind ? "validate" : "train", draw: blind ? k : null });
    }
    json({ items, remaining: buildings - this.labels.size, strategy: "spread", model: null });
  }],
  ["GET", /^\/assessments\/demo\/labels$/, function ({ json }) {
    json({ labels: [...this.labels.values()], count: this.labels.size, seq: this.seq });
  }],
  ["GET", /^\/assessments\/demo\/labels\/history$/, function ({ json }) {
    json({ entries: this.log, seq: this.seq });
  }],
  ["PUT", /^\/assessments\/demo\/labels\/(b\d+)$/, function ({ json, problem, args, headers, body }) {
    const old = this.labels.get(args[0]);
    const fits = headers["if-match"] ? old?.etag === headers["if-match"] : headers["if-none-match"] === "*" && !old;
    if (!fits) return problem(412, "the label was changed meanwhile", old ? { ETag: old.etag } : {});
    const l = this.set(args[0], JSON.parse(body));
    if (this.of("train").length === 25) this.run("train");
    json(l, old ? 200 : 201, { ETag: l.etag });
  }],
  ["DELETE", /^\/assessments\/demo\/labels\/(b\d+)$/, function ({ json, problem, args, headers }) {
    const old = this.labels.get(args[0]);
    if (!old) return problem(404, "there is no label");
    if (headers["if-match"] !== old.etag) return problem(412, "the label was changed meanwhile", { ETag: old.etag });
    this.labels.delete(args[0]);
    this.log.push({ ...old, action: "clear", seq: ++this.seq });
    json(null, 204);
  }],
  ["GET", /^\/assessments\/demo\/metrics$/, function ({ json }) {
    json({
      labels: { train: perClass(this.of("train")), validate: perClass(this.of("validate")) }, n_train: this.of("train").length, n_validate: this.of("validate").length,
      next_train_at: Math.max(0, 25 * (this.models.length + 1) - this.of("train").length), retrain_every: 25, curve: this.models, stop_suggested: false, seconds_per_model: 42, model: null,
      pr: [0, 0.2, 0.4, 0.6, 0.8, 1].map((t) => ({ threshold: t, precision: 0.5 + t / 2, recall: 1 - t * 0.8 })),
    });
  }],
  ["GET", /^\/assessments\/demo\/review$/, function ({ json, query }) {
    json({ list: query.get("list"), items: [41, 42, 43].map((i) => ({ ...this.building(i), why: { code: query.get("list"), text: "-", value: 0.5 } })) });
  }],
  ["GET", /^\/assessments\/demo\/estimate$/, function ({ json, problem, query }) {
    const sample = this.of("validate");
    if (sample.length < 5) return problem(409, "fewer than 5 buildings of the random sample are judged");
    const total = (n) => ({ n_sampled: n, estimate: (n * buildings) / sample.length, low: n, high: buildings - (sample.length - n), share: n / sample.length, share_low: 0.1, share_high: 0.9 });
    const area = { n_buildings: buildings, n_sampled: sample.length, n_predicted: 30, refused: null };
    const damaged = total(sample.filter((l) => ["major", "destroyed"].includes(l.dmg_class)).length);
    json({
      cut: Number(query.get("cut")), method: query.get("method"), level: 0.95, sample: { design: "simple random", n_drawn: sample.length, n_graded: sample.length, n_unknown: 0 },
      whole: { zone_id: null, zone_name: null, ...area, damaged, classes: [...names, "unknown"].map((c, i) => ({ class: c, level: i, ...total(sample.filter((l) => l.dmg_class === c).length) })) },
      zones: [{ zone_id: "A", zone_name: "North", ...area, damaged, classes: [] }], accuracy: { n: sample.length, precision: { value: 0.8, low: 0.6, high: 0.9 }, recall: null }, notes: ["-"],
      ...(query.has("half_width") ? { sample_size: { half_width: Number(query.get("half_width")) * buildings, n_exact: 50, n_assisted: Math.round(2 / Number(query.get("half_width"))) } } : {}),
    });
  }],
  ["POST", /^\/processes\/(\w+)\/execution$/, function ({ json, args }) {
    json(this.run(args[0]), 201);
  }],
  ["GET", /^\/jobs$/, function ({ json }) {
    json({ jobs: this.jobs });
  }],
  ["DELETE", /^\/jobs\/(\w+)$/, function ({ json, args }) {
    const job = this.jobs.find((j) => j.jobID === args[0]);
    job.status = "dismissed";
    json(job);
  }],
  ["GET", /^\/jobs\/events$/, function ({ r, q }) {
    r.writeHead(200, { "Content-Type": "text/event-stream" });
    r.write(": open\n\n");
    this.streams.add(r);
    q.on("close", () => this.streams.delete(r));
  }],
  ["GET", /^\/tiles\/demo\/\w+\/tilejson\.json$/, ({ json }) => json({ minzoom: 10, maxzoom: 20, bounds: [10, 45, 10.005, 45.003] })],
  ["GET", /^\/tiles\/demo\/(\w+)\//, ({ end, args }) => end(200, "image/png", png(64, () => (args[0] === "pre" ? [120, 140, 110] : [140, 120, 110])))],
  ["GET", /^\/collections\/demo\.buildings\/queryables$/, ({ json }) => json({ properties: { dmg_class: { enum: [...names, "unknown"] } } })],
  ["GET", /^\/collections\/demo\.buildings\/items$/, function ({ json, query }) {
    const features = [];
    for (let i = 1; i <= buildings; i++) {
      const b = this.building(i), status = i % 13 === 0 ? "abstain" : "ok";
      const fits = [["dmg_class", truth(i)], ["status", status]].every(([k, v]) => !query.has(k) || query.get(k) === v) && probability(i) >= Number(query.get("min_p") ?? 0);
      if (!fits) continue;
      const properties = { bldg_id: b.bldg_id, dmg_class: truth(i), p_dmg: probability(i), status, area_m2: b.area_m2, p_none: 0.2, p_minor: 0.3, p_major: 0.3, p_destr: 0.2, shift_x: 0.5, shift_y: -0.7, shift_q: 0.8, updated: "2026-01-02T03:04:05Z" };
      features.push({ type: "Feature", id: i, geometry: { type: "Polygon", coordinates: square(b.lon, b.lat, 6e-5) }, properties });
    }
    json({ type: "FeatureCollection", features: features.slice(0, Number(query.get("limit"))), numberMatched: features.length, links: [] });
  }],
];
