// SPDX-License-Identifier: Apache-2.0
// Every sentence of the page. A language is one more object with the same keys; missing keys fall back to English.
const en = {
  title: "Damage map",
  chooseMap: "Map",
  mapLabel: "Map of the scene. Arrow keys move it, plus and minus zoom. The list of buildings beside it holds the same.",
  skipToList: "Skip to the list of buildings",
  before: "Before",
  after: "After",
  compare: "Compare before and after",
  swipe: "Dividing line between before and after, in per cent of the map's width",
  swipeValue: "{0} % before",
  opacity: "Strength of the damage fill",
  legend: "Legend",
  legendClass: "Damage",
  legendView: "In view",
  legendAll: "All",
  legendOpen: "of these, too close to call",
  building: "Building",
  noBuilding: "Choose a building on the map or in the list.",
  close: "Close",
  list: "Buildings in view",
  listMore: "The {0} most likely damaged of {1} in view.",
  listNone: "No building in view.",
  tooMany: "{0} buildings in view: shown as a picture. Zoom in to see each one.",
  loaded: "{0} buildings in view.",
  loading: "Loading …",
  failed: "Loading failed: {0}",
  noLayer: "The image {0} cannot be shown: {1}",
  noLayerPre: "from before",
  noLayerPost: "from after",
  downloads: "Downloads",
  interface: "Interface for other programs",
  attribution: "Images: as given by the user. Damage: read by aftermap{0}, not verified on the ground.",
  unknownDate: "date unknown",
  area: "Area",
  squareMetres: "{0} m²",
  damageClass: "Damage",
  pDamaged: "Probability of damage",
  probabilities: "Probabilities",
  status: "Status",
  reason: "Reason",
  updated: "Computed",
  notGiven: "not given",
  class_none: "None visible",
  class_undamaged: "Undamaged",
  class_minor: "Minor",
  class_major: "Major",
  class_damaged: "Damaged",
  class_destroyed: "Destroyed",
  class_unknown: "Cannot tell",
  p_none: "None visible",
  p_minor: "Minor",
  p_major: "Major",
  p_destr: "Destroyed",
  status_ok: "decided",
  status_abstain: "too close to call",
  status_unknown: "cannot tell",
  reason_nodata: "no image there",
  reason_cloud: "cloud",
  reason_shadow: "shadow",
  reason_smoke: "smoke",
  reason_vegetation: "under vegetation",
  reason_off_nadir: "seen from too far aside",
  reason_misreg: "the images do not fit each other",
  reason_no_building: "no building",
  reason_under_construction: "under construction",
  reason_unclear: "unclear",
};

export type Key = keyof typeof en;

const catalogues: Record<string, Partial<Record<Key, string>>> = { en };

export const language = ((): string => {
  for (const wanted of navigator.languages) {
    const tag = wanted.split("-")[0] ?? "";
    if (tag in catalogues) return tag;
  }
  return "en";
})();

const catalogue: Record<string, string> = { ...en, ...catalogues[language] };

export function t(key: Key, ...args: (string | number)[]): string {
  return (catalogue[key] ?? key).replace(/\{(\d)\}/g, (_, i: string) => String(args[Number(i)] ?? ""));
}

/** The word for a value of the data ("class", "destroyed"); values without one show as they are. */
export function word(kind: "class" | "status" | "reason", value: string): string {
  return catalogue[`${kind}_${value}`] ?? value;
}

const plain = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const probability = new Intl.NumberFormat(language, { minimumFractionDigits: 3, maximumFractionDigits: 3 });

export const number = (v: number): string => plain.format(v);
export const share = (v: number): string => probability.format(v);
