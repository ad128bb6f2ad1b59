// SPDX-License-Identifier: Apache-2.0
// No label is lost: each is written to this browser's storage before anything is sent, and leaves it only when the server
// has acknowledged it. A restart of the server, a closed laptop or a reload in between just sends it later.
//
// One entry per building (the last decision counts; the server keeps the history). An entry holds the version (ETag) the
// decision was based on, so that two people on one building notice: the server answers 412, the entry becomes a conflict,
// and the user chooses. What the server refuses for good (422 …) is kept as well, with its reason, until seen.
//
// Keys: aftermap.label/ASSESSMENT/BUILDING -> Entry as JSON.
import { signal } from "@preact/signals";
import { ApiError, labelDelete, labelPut, type Label } from "../api.js";
import { online } from "./net.js";

export interface Entry {
  assessment: string;
  building: string;
  label: Label | null; // null: take the label back
  etag: string | null; // version it was based on; null: there was no label
  serial: number; // rises with each decision
  refused?: string; // why the server did not take it
  conflict?: boolean; // someone else decided meanwhile
}

const prefix = "aftermap.label/";
const keyOf = (assessment: string, building: string): string =>
  `${prefix}${encodeURIComponent(assessment)}/${encodeURIComponent(building)}`;

function entries(): Entry[] {
  const out: Entry[] = [];
  for (let i = 0; i < localStorage.length; i++) {
    const key = localStorage.key(i);
    if (key?.startsWith(prefix)) out.push(JSON.parse(localStorage.getItem(key) ?? "null") as Entry);
  }
  return out.sort((a, b) => a.serial - b.serial);
}

export type SaveState = "saved" | "saving" | "waiting";

/** Entries still here, those that need the user, and how saving goes. */
export const unsaved = signal<Entry[]>(entries());
export const saveState = signal<SaveState>("saved");
/** Rises with each acknowledged label; views that count labels listen. */
export const acknowledged = signal(0);

const versions = new Map<string, string | null>(); // key -> version last seen
let serial = Date.now();
let running = false;
let pause = 0; // ms until the next try
let timer: ReturnType<typeof setTimeout> | undefined;

/** Tells the store which version of a label the user is looking at. */
export function seen(assessment: string, building: string, etag: string | null): void {
  versions.set(keyOf(assessment, building), etag);
}

export function pendingOf(assessment: string, building: string): Entry | null {
  const text = localStorage.getItem(keyOf(assessment, building));
  return text ? (JSON.parse(text) as Entry) : null;
}

function write(entry: Entry): void {
  localStorage.setItem(keyOf(entry.assessment, entry.building), JSON.stringify(entry));
  unsaved.value = entries();
}

function remove(entry: Entry): void {
  localStorage.removeItem(keyOf(entry.assessment, entry.building));
  unsaved.value = entries();
}

/** Decides about a building; null takes the decision back. Returns at once. */
export function save(assessment: string, building: string, label: Label | null): void {
  const key = keyOf(assessment, building);
  const before = pendingOf(assessment, building);
  const etag = before ? before.etag : (versions.get(key) ?? null);
  write({ assessment, building, label, etag, serial: ++serial });
  void flush();
}

/** Settles a conflict or a refusal: send mine over the present version, or drop mine. */
export function settle(entry: Entry, keepMine: boolean): void {
  if (!keepMine) return remove(entry);
  write({ assessment: entry.assessment, building: entry.building, label: entry.label, etag: versions.get(keyOf(entry.assessment, entry.building)) ?? null, serial: ++serial });
  void flush();
}

async function send(entry: Entry): Promise<void> {
  const key = keyOf(entry.assessment, entry.building);
  let etag: string | null = null;
  try {
    if (entry.label) etag = await labelPut(entry.assessment, entry.building, entry.label, entry.etag);
    else await labelDelete(entry.assessment, entry.building, entry.etag);
  } catch (e) {
    if (!(e instanceof ApiError) || e.status === 0 || e.status === 429 || e.status >= 500) throw e;
    if (!entry.label && e.status === 404) {
      // taken back before it ever arrived
    } else {
      versions.set(key, e.etag);
      write({ ...entry, refused: e.message, conflict: e.status === 409 || e.status === 412 });
      return;
    }
  }
  versions.set(key, etag);
  const now = pendingOf(entry.assessment, entry.building);
  if (now && now.serial !== entry.serial) write({ ...now, etag }); // decided again meanwhile: now based on what was just stored
  else remove(entry);
  acknowledged.value++;
}

/** Sends what waits, oldest first; on a dead line tries again, ever less often up to every 10 seconds. */
export async function flush(): Promise<void> {
  if (running) return;
  running = true;
  clearTimeout(timer);
  try {
    for (let entry = next(); entry; entry = next()) {
      saveState.value = "saving";
      await send(entry);
      pause = 0;
    }
    saveState.value = "saved";
  } catch {
    saveState.value = "waiting";
    pause = Math.min(10000, pause ? pause * 2 : 500);
    timer = setTimeout(() => void flush(), pause);
  } finally {
    running = false;
  }
}

const next = (): Entry | undefined => entries().find((e) => !e.refused);

window.addEventListener("online", () => void flush());
// Something else has just reached the server: no need to wait for the next try.
online.subscribe((reached) => {
  if (reached && saveState.peek() === "waiting") void flush();
});
// Another tab of this browser writes to the same storage.
window.addEventListener("storage", () => (unsaved.value = entries()));
