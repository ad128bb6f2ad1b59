// SPDX-License-Identifier: Apache-2.0
// What the user chose for this browser. Slow links: smaller chips, no images fetched ahead, coarser map tiles.
import { signal } from "@preact/signals";

function kept(name: string, preset: boolean) {
  const key = `aftermap.${name}`;
  const s = signal((localStorage.getItem(key) ?? String(preset)) === "true");
  s.subscribe((v) => localStorage.setItem(key, String(v)));
  return s;
}

const link = (navigator as { connection?: { saveData?: boolean } }).connection;

export const lowBandwidth = kept("lowBandwidth", link?.saveData === true);
/** Whether a level key goes straight on to the next building. */
export const goesOn = kept("goesOn", true);

/** Who is labelling: goes with each label. */
export const person = signal(localStorage.getItem("aftermap.person") ?? "");
person.subscribe((v) => localStorage.setItem("aftermap.person", v));
/** Single-key shortcuts can be switched off (WCAG 2.1.4). */
export const shortcuts = kept("shortcuts", true);
