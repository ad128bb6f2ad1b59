// SPDX-License-Identifier: Apache-2.0
// How a building looks on the map, by what is asked of it: its damage class, its probability, how uncertain it is, its shift,
// or (while labelling) the label of a person. Steps get darker and carry letters or digits, so that colour is never alone.
import { getCenter } from "ol/extent.js";
import type Feature from "ol/Feature.js";
import type Geometry from "ol/geom/Geometry.js";
import LineString from "ol/geom/LineString.js";
import Point from "ol/geom/Point.js";
import CircleStyle from "ol/style/Circle.js";
import Fill from "ol/style/Fill.js";
import RegularShape from "ol/style/RegularShape.js";
import Stroke from "ol/style/Stroke.js";
import Style from "ol/style/Style.js";
import Text from "ol/style/Text.js";
import { fill, look } from "../lib/palette.js";

export type Theme = "damage" | "prob" | "uncertainty" | "shift" | "label";

const letterResolution = 0.35; // metres per pixel below which letters fit into houses
const focus = "#0057d9";

/** Five steps of a share, light to dark; each is told by its digit as well. */
export const ramp = ["#f3f0f7", "#cbc9e2", "#9e9ac8", "#756bb1", "#3f2b7a"];
export const rampStep = (v: number): number => Math.min(4, Math.max(0, Math.floor(v * 5)));

/** 0 when the model is sure, 1 when both answers are as likely; from the stored entropy if there is one. */
export function uncertainty(f: Feature<Geometry>): number | null {
  const p = f.get("p_dmg") as number | null | undefined;
  if (p === null || p === undefined) return null;
  if (p <= 0 || p >= 1) return 0;
  return -(p * Math.log2(p) + (1 - p) * Math.log2(1 - p));
}

export interface StyleState {
  theme: Theme;
  opacity: number;
  selected: (f: Feature<Geometry>) => boolean;
  labelOf: (f: Feature<Geometry>) => string | null;
}

export class Styles {
  private readonly cache = new Map<string, Style[]>();

  constructor(private readonly state: StyleState) {}

  clear(): void {
    this.cache.clear();
  }

  of(f: Feature<Geometry>, resolution: number): Style[] {
    const withLetter = resolution < letterResolution;
    const isSelected = this.state.selected(f);
    const { theme, opacity } = this.state;
    if (theme === "damage" || theme === "label") {
      const name = theme === "damage" ? String(f.get("dmg_class") ?? "unknown") : this.state.labelOf(f);
      const isOpen = theme === "damage" && f.get("status") === "abstain"; // too close to call: pale, with a broken outline
      return this.kept(`${theme} ${name} ${withLetter} ${isSelected} ${isOpen}`, () => classStyle(name, opacity, withLetter, isSelected, isOpen));
    }
    if (theme === "shift") return [...this.kept(`outline ${isSelected}`, () => classStyle(null, opacity, false, isSelected, false)), ...arrow(f, resolution)];
    const v = theme === "prob" ? (f.get("p_dmg") as number | null) : uncertainty(f);
    const step = v === null || v === undefined ? -1 : rampStep(v);
    return this.kept(`${theme} ${step} ${withLetter} ${isSelected}`, () => rampStyle(step, opacity, withLetter, isSelected));
  }

  private kept(key: string, make: () => Style[]): Style[] {
    let styles = this.cache.get(key);
    if (!styles) this.cache.set(key, (styles = make()));
    return styles;
  }
}

function letter(text: string): Text {
  return new Text({ text, font: "bold 13px sans-serif", fill: new Fill({ color: "#000000" }), stroke: new Stroke({ color: "#ffffff", width: 3 }) });
}

function shape(inside: Fill, stroke: Stroke, isSelected: boolean, text: Text | null): Style[] {
  const halo = new Stroke({ color: "#ffffff", width: isSelected ? 7 : 3 });
  const zIndex = isSelected ? 2 : 1;
  return [
    new Style({ stroke: halo, image: new CircleStyle({ radius: 7, stroke: halo }) }),
    new Style({ stroke, fill: inside, image: new CircleStyle({ radius: 7, stroke, fill: inside }), zIndex, ...(text && { text }) }), // footprints may be points
  ];
}

/** name null: an outline only. */
function classStyle(name: string | null, opacity: number, withLetter: boolean, isSelected: boolean, isOpen: boolean): Style[] {
  const l = look(name ?? "unknown");
  const dash = name && (l.pattern === "outline" || isOpen) ? { lineDash: isOpen ? [7, 4] : [4, 3] } : {};
  const stroke = new Stroke({ color: isSelected ? focus : name ? l.ink : "#1b2a38", width: isSelected ? 4 : 1.5, ...dash });
  const pattern = name ? fill(name, opacity * (isOpen ? 0.4 : 1)) : null;
  return shape(new Fill({ color: pattern ?? "rgba(0,0,0,0.01)" }), stroke, isSelected, withLetter && name ? letter(l.letter) : null);
}

function rampStyle(step: number, opacity: number, withLetter: boolean, isSelected: boolean): Style[] {
  const colour = ramp[step];
  const alpha = Math.round(opacity * 255).toString(16).padStart(2, "0");
  const stroke = new Stroke({ color: isSelected ? focus : "#2b2145", width: isSelected ? 4 : 1.2, ...(colour ? {} : { lineDash: [4, 3] }) });
  return shape(new Fill({ color: colour ? colour + alpha : "rgba(0,0,0,0.01)" }), stroke, isSelected, withLetter ? letter(colour ? String(step * 2) : "?") : null);
}

const lengthen = 8; // shifts of a metre are hard to see

function arrow(f: Feature<Geometry>, resolution: number): Style[] {
  const [dx, dy, q] = ["shift_x", "shift_y", "shift_q"].map((name) => f.get(name) as number | null | undefined);
  const g = f.getGeometry();
  if (typeof dx !== "number" || typeof dy !== "number" || !g || (dx === 0 && dy === 0)) return [];
  const from = getCenter(g.getExtent());
  // Mercator stretches the metres of the ground.
  const stretch = Math.cosh((from[1] ?? 0) / 6378137) * lengthen;
  const to = [(from[0] ?? 0) + dx * stretch, (from[1] ?? 0) + dy * stretch];
  const colour = (q ?? 0) < 0.5 ? "#8a5a00" : "#0b3d91";
  const stroke = new Stroke({ color: colour, width: 2, ...((q ?? 0) < 0.5 ? { lineDash: [4, 3] } : {}) });
  const tip = new RegularShape({ points: 3, radius: resolution < 2 ? 6 : 4, rotation: Math.atan2(dx, dy), rotateWithView: true, fill: new Fill({ color: colour }) });
  return [
    new Style({ geometry: new LineString([from, to]), stroke: new Stroke({ color: "#ffffff", width: 4 }), zIndex: 3 }),
    new Style({ geometry: new LineString([from, to]), stroke, zIndex: 4 }),
    new Style({ geometry: new Point(to), image: tip, zIndex: 4 }),
  ];
}
