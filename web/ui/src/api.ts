// SPDX-License-Identifier: Apache-2.0
// The server's answers as types, and one function per call the page makes (the interface itself: /api).
import { ApiError, call, get } from "./lib/net.js";

export { ApiError } from "./lib/net.js";

const e = encodeURIComponent;

/* ---- maps that can be looked at ------------------------------------------------------------------------------- */

export interface Link {
  rel: string;
  title: string;
  href: string;
  type: string;
}

export type LayerId = "pre" | "post" | "damage" | "prob" | "uncertainty" | "shift";

export interface Layer {
  id: LayerId;
  available: boolean;
  reason?: string;
  date?: string;
}

export type AssessmentState = "new" | "importing" | "ready" | "predicted" | "failed";

export interface Assessment {
  id: string;
  title: string;
  event?: { type: string; date: string } | null;
  cut?: number;
  state?: AssessmentState;
  etag?: string | null;
  created?: string;
  pre?: string[];
  post?: string[];
  footprints?: string;
  zones?: Zones | null;
  aoi?: unknown; // of GeoJSON or the name of a file; null: everywhere
  buildings: number;
  n_labels?: { train: number; validate: number };
  jobs?: { active: number };
  bbox: [number, number, number, number] | null;
  collection: string | null;
  revision: string | null;
  version?: string;
  layers: Layer[];
  links: Link[];
}

/** A layer of polygons that totals are split by. */
export interface Zones {
  ref: string;
  id_field: string;
  name_field?: string;
}

export interface Server {
  assessments: Assessment[];
  data_root?: boolean; // assessments can be made and worked on here
  read_only?: boolean;
  disk_free_bytes?: number | null;
  version?: string;
}

export interface TileJson {
  minzoom: number;
  maxzoom: number;
  bounds: [number, number, number, number];
}

export type Properties = Record<string, string | number | null>;

export interface Page {
  features: { id: number; properties: Properties; geometry?: unknown }[];
  numberMatched: number;
  links: Link[];
}

export const server = (): Promise<Server> => get("./assessments");
export const assessment = (id: string): Promise<Assessment> => get(`./assessments/${e(id)}`);
export const tileJson = (a: Assessment, layer: string): Promise<TileJson> => get(`./tiles/${e(a.id)}/${layer}/tilejson.json`);

/** One page of buildings; `query` is what stands after the question mark. */
export const items = (a: Assessment, query: string, signal?: AbortSignal): Promise<Page> =>
  get(`./collections/${e(a.collection ?? "")}/items?${query}`, signal);

/** The query of the next page, or null on the last. */
export function next(page: Page): string | null {
  const link = page.links.find((l) => l.rel === "next");
  return link ? new URL(link.href).search.slice(1) : null;
}

export async function classes(a: Assessment): Promise<string[]> {
  const doc = await get<{ properties: Record<string, { enum?: string[] }> }>(`./collections/${e(a.collection ?? "")}/queryables`);
  return doc.properties["dmg_class"]?.enum ?? [];
}

export async function count(a: Assessment, query: string): Promise<number> {
  return (await items(a, `limit=1&${query}`)).numberMatched;
}

/** Path of one of the server's links, relative to the page. */
export const local = (link: Link): string => "." + new URL(link.href).pathname.replace(/^.*(?=\/assessments\/)/, "");

/* ---- who is there ---------------------------------------------------------------------------------------------- */

export interface Session {
  role: "none" | "reader" | "editor" | "admin";
  name: string;
  auth: boolean; // tokens are in use
}

export async function session(): Promise<Session> {
  try {
    return await get<Session>("./session");
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return { role: "reader", name: "", auth: false }; // a server that only shows maps
    throw error;
  }
}

export const logIn = async (token: string): Promise<Session> => (await call<Session>("POST", "./session", { json: { token } })).body;
export const logOut = (): Promise<unknown> => call("DELETE", "./session");

/* ---- files and uploads ----------------------------------------------------------------------------------------- */

export interface FileEntry {
  name: string;
  ref: string;
  kind: "dir" | "raster" | "vector" | "other";
  bytes: number | null;
}

export interface RasterInfo {
  ref: string;
  kind: "raster";
  driver: string;
  crs: string | null;
  gsd_m: number | null;
  width: number;
  height: number;
  bands: number;
  bit_depth: number;
  nodata: number | null;
  date: string | null;
  bbox: [number, number, number, number] | null;
  problem: string | null;
}

export interface VectorLayer {
  name: string;
  n: number;
  geometry: string;
  fields: { name: string; type: string }[];
  suggested_id_field: string | null;
}

export interface VectorInfo {
  ref: string;
  kind: "vector";
  driver: string;
  layers: VectorLayer[];
  crs: string | null;
  bbox: [number, number, number, number] | null;
  problem: string | null;
}

export interface Upload {
  id: string;
  name: string;
  bytes: number;
  offset: number;
  chunk_bytes: number;
  complete: boolean;
  ref: string | null;
  problem: string | null;
}

export const files = (path: string): Promise<{ path: string; entries: FileEntry[] }> => get(`./files?path=${e(path)}`);
export const fileInfo = (ref: string): Promise<RasterInfo | VectorInfo> => get(`./files/info?ref=${e(ref)}`);
export const thumbnail = (ref: string, px: number, bands: string): string =>
  `./files/thumbnail.png?ref=${e(ref)}&px=${px}${bands ? `&bands=${bands}` : ""}`;

export const uploads = async (): Promise<Upload[]> => (await get<{ uploads: Upload[] }>("./uploads")).uploads;
export const uploadStart = async (name: string, bytes: number): Promise<Upload> => (await call<Upload>("POST", "./uploads", { json: { name, bytes } })).body;
export const uploadState = (id: string): Promise<Upload> => get(`./uploads/${e(id)}`);
export const uploadPart = (id: string, part: Blob, from: number, total: number, signal: AbortSignal): Promise<unknown> =>
  call("PATCH", `./uploads/${e(id)}`, {
    body: part,
    headers: { "Content-Type": "application/octet-stream", "Content-Range": `bytes ${from}-${from + part.size - 1}/${total}` },
    signal,
  });

/* ---- the work on one assessment ------------------------------------------------------------------------------------ */

export interface NewAssessment {
  id?: string;
  title: string;
  event?: { type: string; date: string };
  pre: string[];
  post: string[];
  footprints: string;
  layer?: string;
  id_field?: string;
  cut?: number;
  aoi?: unknown;
  zones?: Zones;
}

export const create = async (a: NewAssessment): Promise<Assessment> => (await call<Assessment>("POST", "./assessments", { json: a })).body;

/** Sets or takes away the zones, based on the version of the assessment that was seen. */
export const setZones = (a: Assessment, zones: Zones | null): Promise<unknown> =>
  call("PATCH", `./assessments/${e(a.id)}`, { json: { zones }, headers: { "If-Match": a.etag ?? "" } });

const under = (id: string, rest: string): string => `./assessments/${e(id)}/${rest}`;

export interface Shift {
  x: number;
  y: number;
  q: number | null;
  by: string;
}

export interface ShiftArrow {
  lon: number;
  lat: number;
  shift_x: number;
  shift_y: number;
  shift_q: number;
}

export interface Alignment {
  aligned: boolean;
  chips: number;
  measured?: number;
  field?: number;
  arrows?: ShiftArrow[];
  skipped?: number;
  hand?: number;
  accepted_share?: number;
  median_m?: number;
  p95_m?: number;
  max_m?: number;
  gsd_m?: number;
  histogram?: { step_m: number; count: number[] };
  verdict?: "pass" | "warn" | "fail";
  worst?: { fid: number; bldg_id: string; shift_x: number; shift_y: number; shift_q: number; shift_by: string }[];
}

export interface Checks {
  overlap_share: number | null;
  footprints: { n: number; kept: number; reasons: Record<string, number> };
  images: Record<"pre" | "post", { gsd_m: number | null; bands: number; date: string | null; crs: string | null; files: number | string[] }>;
  blank_share: number | null;
  alignment: Alignment | null;
  verdicts: { check: string; verdict: "pass" | "warn" | "fail" | "unknown"; detail: string }[];
}

export const checks = (id: string): Promise<Checks> => get(under(id, "checks"));

export type Purpose = "train" | "validate";

/** What is sent about a building. */
export interface Label {
  dmg_class?: string;
  reason?: string;
  sure?: boolean;
  note?: string;
  shift?: [number, number] | null;
  by?: string;
  purpose: Purpose;
  draw?: number | null;
}

/** What the server holds about it. */
export interface StoredLabel extends Label {
  bldg_id: string;
  dmg_class: string;
  reason: string;
  updated: string;
  seq: number;
  etag: string;
}

export interface Building {
  bldg_id: string;
  fid: number;
  lon: number;
  lat: number;
  area_m2: number | null;
  outline: [number, number][][];
  shift: Shift | null;
  label: StoredLabel | null;
  prediction: { p_dmg: number; dmg_class: string; entropy: number } | null;
  page: number;
  size_m: number; // side of the chip
  gsd_m?: number; // of its pixels
  split: string;
  why?: { code: string; text: string; value: number | null };
  purpose?: Purpose;
  draw?: number | null;
}

export interface Queue {
  items: Building[];
  remaining: number;
  strategy: string;
  model: string | null;
}

export const building = (id: string, bldg: string): Promise<Building> => get(under(id, `buildings/${e(bldg)}`));
export const queue = (id: string, n: number, mode: "train" | "validate" | "both", user: string): Promise<Queue> =>
  get(under(id, `queue?n=${n}&mode=${mode}${user ? `&user=${e(user)}` : ""}`));
/** `rev` names what the picture is made from: as long as it stays, the browser keeps the picture. */
export const chip = (id: string, bldg: string, which: "pre" | "post", size_m: number, px: number, rev: string): string =>
  under(id, `chips/${e(bldg)}/${which}.png?px=${px}&shift=auto${size_m ? `&size_m=${size_m}` : ""}&rev=${e(rev)}`);

export type ReviewList = "uncertain" | "large" | "disagreement" | "alignment" | "contradiction";
export const review = (id: string, list: ReviewList, n: number): Promise<{ items: Building[] }> => get(under(id, `review?list=${list}&n=${n}`));

export const labels = (id: string): Promise<{ labels: StoredLabel[]; count: number }> => get(under(id, "labels"));
export const label = (id: string, bldg: string): Promise<StoredLabel> => get(under(id, `labels/${e(bldg)}`));
export const history = (id: string, after: number): Promise<{ entries: (StoredLabel & { action: "set" | "clear"; previous: number | null })[] }> =>
  get(under(id, `labels/history?after=${after}&limit=200`));

/** Stores a label based on the version `etag` (null: there was none); the answer is the new version. */
export async function labelPut(id: string, bldg: string, body: Label, etag: string | null): Promise<string | null> {
  const headers: Record<string, string> = etag ? { "If-Match": etag } : { "If-None-Match": "*" };
  return (await call("PUT", under(id, `labels/${e(bldg)}`), { json: body, headers })).headers.get("ETag");
}

export const labelDelete = (id: string, bldg: string, etag: string | null): Promise<unknown> =>
  call("DELETE", under(id, `labels/${e(bldg)}`), { headers: { "If-Match": etag ?? "*" } });

export interface Metrics {
  labels: Record<Purpose, Record<string, number>>;
  n_train: number;
  n_validate: number;
  next_train_at: number | null; // labels until the next training
  retrain_every: number;
  curve: { model: string; n_labels: number | null; f1?: number | null; f1_low?: number | null; f1_high?: number | null; ap?: number | null; changed_share?: number | null; time: string }[];
  validation?: { n: number; n_damaged: number; precision: number | null; recall: number | null; f1: number | null; accuracy: number | null }; // of the newest model
  pr: { threshold: number; precision: number | null; recall: number | null }[];
  stop_suggested?: boolean;
  seconds_per_model: number | null;
  model: { id?: string; method?: string; n_labels?: number; sha256?: string } | string | null;
}

export const metrics = (id: string): Promise<Metrics> => get(under(id, "metrics"));

/* ---- totals -------------------------------------------------------------------------------------------------------- */

export interface Total {
  n_sampled: number;
  estimate: number;
  low: number;
  high: number;
  share: number;
  share_low: number;
  share_high: number;
}

export interface Area {
  zone_id: string | null;
  zone_name: string | null;
  n_buildings: number;
  n_sampled: number;
  n_predicted: number;
  refused: string | null;
  damaged: Total | null;
  classes: (Total & { class: string; level: number | null })[] | null;
  outside?: boolean;
}

type Rate = { value: number; low: number; high: number };

export interface Estimate {
  cut: number;
  method: string;
  level: number;
  sample: { design: string; n_drawn: number; n_graded: number; n_unknown: number };
  whole: Area;
  zones: Area[];
  accuracy: { n: number; precision: Rate | null; recall: Rate | null } | null;
  notes: string[];
  sample_size?: SampleSize | null; // where a half-width was asked for
}

export interface SampleSize {
  half_width: number; // in buildings
  n_exact: number | null;
  n_assisted: number | null;
}

export const estimate = (id: string, method: string, cut: number): Promise<Estimate> => get(under(id, `estimate?method=${method}&cut=${cut}`));
/** The same, with the sample that a half-width (a share) needs. */
export const plan = (id: string, half_width: number): Promise<Estimate> => get(under(id, `estimate?half_width=${half_width}`));
export const reportUrl = (a: Assessment, kind: "html" | "json", lang: string, paper: string, by: string): string =>
  under(a.id, `report.${kind}?title=${e(a.title)}&lang=${lang}${kind === "html" ? `&paper=${paper}` : ""}${by ? `&reviewed_by=${e(by)}` : ""}`);

/* ---- jobs ------------------------------------------------------------------------------------------------------------ */

export interface Job {
  jobID: string;
  processID: string;
  assessment: string;
  status: "accepted" | "running" | "successful" | "failed" | "dismissed";
  progress: number;
  message: string;
  eta_s: number | null;
  created: string;
  finished: string | null;
}

export const execute = async (process: string, inputs: Record<string, unknown>): Promise<Job> =>
  (await call<Job>("POST", `./processes/${process}/execution`, { json: { inputs } })).body;
export const jobs = async (id: string): Promise<Job[]> => (await get<{ jobs: Job[] }>(`./jobs?assessment=${e(id)}`)).jobs;
export const dismiss = (job: string): Promise<unknown> => call("DELETE", `./jobs/${e(job)}`);
export const jobEvents = (id: string): string => `./jobs/events?assessment=${e(id)}`;
