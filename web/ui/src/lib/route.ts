// SPDX-License-Identifier: Apache-2.0
// The place in the page, kept in the address after '#':  #/            list of assessments
//                                                        #/new         a new one
//                                                        #/ID/STEP     one assessment at one step of the work
//                                                        #ID           the map of one assessment (the form of old links)
import { signal } from "@preact/signals";

export const steps = ["sources", "checks", "label", "map", "review", "validate", "report", "share"] as const;
export type Step = (typeof steps)[number];

export interface Place {
  name: "start" | "new" | "assessment";
  id: string;
  step: Step;
}

function read(): Place {
  const parts = decodeURIComponent(location.hash.slice(1)).split("/");
  const isStep = (s: string | undefined): s is Step => (steps as readonly string[]).includes(s ?? "");
  if (parts[0]) return { name: "assessment", id: parts[0], step: "map" };
  if (parts[1] === "new" && parts.length === 2) return { name: "new", id: "", step: "map" };
  if (parts[1]) return { name: "assessment", id: parts[1], step: isStep(parts[2]) ? parts[2] : "map" };
  return { name: "start", id: "", step: "map" };
}

export const place = signal<Place>(read());

let moved = false;

/** Whether the user has been elsewhere in the page: on the first view the focus stays where the browser puts it. */
export const hasMoved = (): boolean => moved;

window.addEventListener("hashchange", () => {
  moved = true;
  place.value = read();
});

export const hrefOf = (id: string, step: Step): string => `#/${encodeURIComponent(id)}/${step}`;

export function go(href: string): void {
  location.hash = href.replace(/^#/, "");
}
