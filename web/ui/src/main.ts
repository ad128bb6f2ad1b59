// SPDX-License-Identifier: Apache-2.0
// Puts the page together: header, map with the dividing line, panel; and opens the map named in the address (#id) or the first.
import "ol/ol.css";
import "./style.css";
import { assessments, classes, count, type Assessment } from "./api.js";
import { DamageMap } from "./map.js";
import { el, Panel } from "./panel.js";
import { language, t } from "./strings.js";

document.documentElement.lang = language;
document.title = `${t("title")} – aftermap`;

const range = (id: string, label: string, value: number): HTMLInputElement =>
  el("input", { id, type: "range", min: "0", max: "100", step: "1", value: String(value), "aria-label": label });

const status = el("p", { id: "status", role: "status" });
const target = el("div", { id: "map", tabindex: "0", role: "application", "aria-label": t("mapLabel") });
const swipe = range("swipe", t("swipe"), 50);
const line = el("div", { id: "line", "aria-hidden": "true" });
const before = el("span", { id: "before", class: "side" });
const after = el("span", { id: "after", class: "side" });
const compare = el("input", { id: "compare", type: "checkbox" });
const opacity = range("opacity", t("opacity"), 60);
const picker = el("select", { id: "picker" });
const pickerLabel = el("label", { for: "picker" }, t("chooseMap"), " ", picker);
compare.checked = true;

const controls = el(
  "div",
  { class: "controls" },
  el("label", {}, compare, " ", t("compare")),
  el("label", { for: "opacity" }, t("opacity"), opacity),
);
const panel = new Panel((f, center) => map.choose(f, center), controls);
const stage = el("div", { id: "stage" }, target, line, before, after, swipe);

document.body.prepend(
  el("a", { class: "skip", href: "#list-title" }, t("skipToList")),
  el("header", {}, el("h1", {}, t("title")), pickerLabel, status),
  el("main", {}, stage, panel.root),
);

const map = new DamageMap(target, {
  shown: (features, matched) => {
    status.textContent = features ? t("loaded", matched) : t("tooMany", matched);
    panel.setBuildings(features, matched);
  },
  chosen: (f) => panel.showDetails(f),
  failed: (message) => (status.textContent = t("failed", message)),
  loading: () => (status.textContent = t("loading")),
});

let canSwipe = false;

function divide(): void {
  const on = canSwipe && compare.checked;
  const share = Number(swipe.value);
  swipe.hidden = line.hidden = before.hidden = after.hidden = !on;
  swipe.setAttribute("aria-valuetext", t("swipeValue", share));
  line.style.left = `${share}%`;
  map.setDivide(share / 100, on);
}

swipe.addEventListener("input", divide);
compare.addEventListener("change", divide);
opacity.addEventListener("input", () => map.setOpacity(Number(opacity.value) / 100));

async function open(a: Assessment): Promise<void> {
  const dateOf = (id: string): string => a.layers.find((l) => l.id === id)?.date ?? "";
  const missing = a.layers.filter((l) => l.id !== "damage" && !l.available);
  canSwipe = missing.length === 0;
  before.textContent = [t("before"), dateOf("pre") || t("unknownDate")].join(", ");
  after.textContent = [t("after"), dateOf("post") || t("unknownDate")].join(", ");
  panel.setFiles(a);
  divide();
  const notes = missing.map((l) => t("noLayer", t(l.id === "pre" ? "noLayerPre" : "noLayerPost"), l.reason ?? ""));
  document.getElementById("notes")?.remove();
  if (notes.length) controls.append(el("p", { id: "notes", class: "note" }, notes.join(" ")));
  const names = await classes(a);
  const counts = await Promise.all(names.map(async (name) => [name, await count(a, "dmg_class", name)] as const));
  panel.setLegend(new Map(counts), await count(a, "status", "abstain"));
  await map.open(a);
}

async function start(): Promise<void> {
  const all = await assessments();
  picker.replaceChildren(...all.map((a) => el("option", { value: a.id }, a.title)));
  pickerLabel.hidden = all.length < 2;
  const openNamed = async (): Promise<void> => {
    const a = all.find((x) => x.id === location.hash.slice(1)) ?? all[0];
    if (!a) return;
    picker.value = a.id;
    await open(a);
  };
  const report = (e: unknown): void => {
    status.textContent = t("failed", e instanceof Error ? e.message : String(e));
  };
  picker.addEventListener("change", () => (location.hash = picker.value));
  window.addEventListener("hashchange", () => {
    if (all.some((a) => a.id === location.hash.slice(1))) openNamed().catch(report);
  });
  await openNamed().catch(report);
}

start().catch((e: unknown) => {
  status.textContent = t("failed", e instanceof Error ? e.message : String(e));
});
