// SPDX-License-Identifier: Apache-2.0
// The column beside the map: legend with counts, the chosen building, the list of buildings, downloads. The list is the
// map's equal for those who use a keyboard or a screen reader.
import type Feature from "ol/Feature.js";
import type Geometry from "ol/geom/Geometry.js";
import { local, type Assessment } from "./api.js";
import { openSwatch, order, swatch } from "./palette.js";
import { number, share, t, word, type Key } from "./strings.js";

const maxListed = 100;

/** An element with attributes and children; text is never read as markup. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export class Panel {
  readonly root = el("aside", { id: "panel", "aria-label": t("legend") });
  private readonly legend = el("tbody");
  private readonly details = el("section", { id: "details", "aria-live": "polite", "aria-labelledby": "details-title" });
  private readonly list = el("ol", { id: "list" });
  private readonly listNote = el("p", { class: "note" });
  private readonly files = el("ul", { id: "files" });
  private readonly inView = new Map<string, HTMLElement>();
  private readonly openInView = el("td", { class: "count" }, "–");

  constructor(private readonly choose: (f: Feature<Geometry> | null, center: boolean) => void, controls: HTMLElement) {
    const head = el("tr", {}, el("th", { scope: "col" }, t("legendClass")), el("th", { scope: "col" }, t("legendView")), el("th", { scope: "col" }, t("legendAll")));
    this.root.append(
      el("section", { "aria-labelledby": "legend-title" }, el("h2", { id: "legend-title" }, t("legend")), el("table", { id: "legend" }, el("thead", {}, head), this.legend), controls),
      this.details,
      el("section", { "aria-labelledby": "list-title" }, el("h2", { id: "list-title", tabindex: "-1" }, t("list")), this.listNote, this.list),
      el("section", { "aria-labelledby": "files-title" }, el("h2", { id: "files-title" }, t("downloads")), this.files, el("p", {}, el("a", { href: "./api.html" }, t("interface")))),
    );
    this.showDetails(null);
  }

  setLegend(counts: Map<string, number>, open: number): void {
    const names = [...counts.keys()].sort((a, b) => (order.indexOf(a) + 99) % 99 - ((order.indexOf(b) + 99) % 99));
    this.inView.clear();
    const row = (picture: Node, label: string, cell: HTMLElement, all: number): HTMLElement =>
      el("tr", {}, el("th", { scope: "row" }, picture, " ", label), cell, el("td", { class: "count" }, number(all)));
    this.legend.replaceChildren(
      ...names.map((name) => {
        const cell = el("td", { class: "count" }, "–");
        this.inView.set(name, cell);
        return row(swatch(name), word("class", name), cell, counts.get(name) ?? 0);
      }),
    );
    if (open) this.legend.append(row(openSwatch(), t("legendOpen"), this.openInView, open));
  }

  setFiles(a: Assessment): void {
    this.files.replaceChildren(
      ...a.links
        .filter((l) => l.rel === "enclosure")
        .map((l) => el("li", {}, el("a", { href: local(l), download: "" }, l.title), ` (${l.href.split("/").pop() ?? ""})`)),
    );
  }

  setBuildings(features: Feature<Geometry>[] | null, matched: number): void {
    const counts = new Map<string, number>();
    for (const f of features ?? []) {
      const name = String(f.get("dmg_class") ?? "unknown");
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    for (const [name, cell] of this.inView) cell.textContent = features ? number(counts.get(name) ?? 0) : "–";
    const open = features?.filter((f) => f.get("status") === "abstain").length;
    this.openInView.textContent = open === undefined ? "–" : number(open);
    const p = (f: Feature<Geometry>): number => (f.get("p_dmg") as number | null) ?? -1;
    const sorted = [...(features ?? [])].sort((a, b) => p(b) - p(a)).slice(0, maxListed);
    this.listNote.textContent = !features
      ? t("tooMany", number(matched))
      : matched === 0
        ? t("listNone")
        : matched > maxListed
          ? t("listMore", number(maxListed), number(matched))
          : t("loaded", number(matched));
    this.list.replaceChildren(...sorted.map((f) => this.row(f)));
  }

  private row(f: Feature<Geometry>): HTMLElement {
    const name = String(f.get("dmg_class") ?? "unknown");
    const p = f.get("p_dmg") as number | null;
    const button = el("button", { type: "button", "data-fid": String(f.getId()) }, swatch(name), el("span", {}, String(f.get("bldg_id") ?? f.getId())), el("span", {}, word("class", name)), el("span", { class: "count" }, p === null ? "–" : share(p)));
    button.addEventListener("click", () => {
      this.choose(f, true);
      this.details.querySelector<HTMLElement>("h2")?.focus();
    });
    return el("li", {}, button);
  }

  showDetails(f: Feature<Geometry> | null): void {
    const title = el("h2", { id: "details-title", tabindex: "-1" }, t("building"));
    if (!f) {
      this.details.replaceChildren(title, el("p", { class: "note" }, t("noBuilding")));
      return;
    }
    const text = (name: string): string | null => (f.get(name) as string | null) ?? null;
    const value = (name: string): number | null => (f.get(name) as number | null) ?? null;
    const rows = el("dl");
    const row = (key: Key, content: Node | string): void => rows.append(el("dt", {}, t(key)), el("dd", { "data-key": key }, content));
    const name = text("dmg_class") ?? "unknown";
    row("damageClass", el("span", { class: "chip" }, swatch(name), " ", word("class", name)));
    const damaged = value("p_dmg");
    row("pDamaged", damaged === null ? t("notGiven") : share(damaged));
    const bars = el("ul", { class: "bars" });
    for (const key of ["p_none", "p_minor", "p_major", "p_destr"] as const) {
      const p = value(key);
      if (p === null) continue;
      const bar = el("meter", { min: "0", max: "1", value: String(p), "aria-hidden": "true" });
      bars.append(el("li", { "data-key": key }, el("span", {}, t(key)), bar, el("span", { class: "count" }, share(p))));
    }
    const status = text("status");
    if (status) row("status", word("status", status));
    const reason = text("reason");
    if (reason) row("reason", word("reason", reason));
    const area = value("area_m2");
    row("area", area === null ? t("notGiven") : t("squareMetres", number(area)));
    const updated = text("updated");
    if (updated) row("updated", updated.replace("T", " ").replace("Z", " UTC"));
    const close = el("button", { type: "button", class: "close" }, t("close"));
    close.addEventListener("click", () => {
      this.choose(null, false);
      document.getElementById("list-title")?.focus();
    });
    title.textContent = `${t("building")} ${text("bldg_id") ?? String(f.getId())}`;
    this.details.replaceChildren(title, rows, ...(bars.childElementCount ? [el("h3", {}, t("probabilities")), bars] : []), close);
  }
}
