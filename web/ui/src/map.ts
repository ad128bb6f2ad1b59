// SPDX-License-Identifier: Apache-2.0
// The map: images before and after with a dividing line, buildings above them, or the damage raster when there are too many.
import OlMap from "ol/Map.js";
import View from "ol/View.js";
import { defaults as defaultControls } from "ol/control/defaults.js";
import ScaleLine from "ol/control/ScaleLine.js";
import type { Coordinate } from "ol/coordinate.js";
import { buffer, containsExtent, getWidth, type Extent } from "ol/extent.js";
import type Feature from "ol/Feature.js";
import GeoJSON from "ol/format/GeoJSON.js";
import type Geometry from "ol/geom/Geometry.js";
import TileLayer from "ol/layer/Tile.js";
import VectorLayer from "ol/layer/Vector.js";
import { transformExtent } from "ol/proj.js";
import { getRenderPixel } from "ol/render.js";
import type RenderEvent from "ol/render/Event.js";
import VectorSource from "ol/source/Vector.js";
import XYZ from "ol/source/XYZ.js";
import CircleStyle from "ol/style/Circle.js";
import Fill from "ol/style/Fill.js";
import Stroke from "ol/style/Stroke.js";
import Style from "ol/style/Style.js";
import Text from "ol/style/Text.js";
import { items, next, tileJson, type Assessment, type Page } from "./api.js";
import { fill, look } from "./palette.js";
import { t } from "./strings.js";

const pageSize = 2000;
const maxDrawn = 8000; // buildings in view above this are shown as a raster
const reach = 4; // pixels beside a building that still count as a click on it
const letterResolution = 0.35; // metres per pixel below which letters fit into houses

export interface MapEvents {
  /** The buildings in view changed; null: too many to hold, `matched` of them. */
  shown: (features: Feature<Geometry>[] | null, matched: number) => void;
  chosen: (feature: Feature<Geometry> | null) => void;
  failed: (message: string) => void;
  loading: () => void;
}

const lonlat = (e: Extent): Extent => transformExtent(e, "EPSG:3857", "EPSG:4326");

export class DamageMap {
  readonly map: OlMap;
  private readonly source = new VectorSource<Feature<Geometry>>();
  private readonly buildings: VectorLayer<VectorSource<Feature<Geometry>>>;
  private pictures: TileLayer<XYZ>[] = [];
  private raster: TileLayer<XYZ> | null = null;
  private assessment: Assessment | null = null;
  private loaded: Extent | null = null;
  private request: AbortController | null = null;
  private selected: Feature<Geometry> | null = null;
  private divide = 0.5;
  private swipes = true;
  private opacity = 0.6;
  private styles = new Map<string, Style[]>();

  constructor(target: HTMLElement, private readonly events: MapEvents) {
    this.buildings = new VectorLayer({
      source: this.source,
      style: (f, resolution) => this.style(f as Feature<Geometry>, resolution),
      zIndex: 10,
    });
    this.map = new OlMap({
      target,
      layers: [this.buildings],
      controls: defaultControls({ attribution: true, rotate: false, attributionOptions: { collapsible: false } }).extend([
        new ScaleLine({ minWidth: 80 }),
      ]),
      view: new View({ center: [0, 0], zoom: 2 }),
    });
    this.map.on("moveend", () => void this.load());
    this.map.on("singleclick", (e) => {
      this.choose(this.at(e.coordinate));
    });
    this.map.on("pointermove", (e) => {
      if (!e.dragging) target.style.cursor = this.at(e.coordinate) ? "pointer" : "";
    });
  }

  /** The building under a position, or the nearest within a few pixels; by geometry, so no canvas is read back. */
  private at(position: Coordinate): Feature<Geometry> | null {
    if (!this.buildings.getVisible()) return null;
    const inside = this.source.getFeaturesAtCoordinate(position)[0];
    if (inside) return inside;
    const near = this.source.getClosestFeatureToCoordinate(position);
    const point = near?.getGeometry()?.getClosestPoint(position);
    if (!near || !point) return null;
    const distance = Math.hypot((point[0] ?? 0) - (position[0] ?? 0), (point[1] ?? 0) - (position[1] ?? 0));
    return distance <= (this.map.getView().getResolution() ?? 0) * reach ? near : null;
  }

  async open(a: Assessment): Promise<void> {
    this.assessment = a;
    this.loaded = null;
    this.source.clear();
    this.source.setAttributions(t("attribution", a.version ? ` ${a.version}` : ""));
    this.choose(null);
    for (const layer of [...this.pictures, ...(this.raster ? [this.raster] : [])]) this.map.removeLayer(layer);
    this.pictures = [];
    this.raster = null;
    for (const l of a.layers) {
      if (!l.available) continue;
      const layer = await this.tiles(a, l.id);
      if (l.id === "damage") this.raster = layer;
      else this.pictures.push(layer);
      if (l.id === "post") {
        layer.on("prerender", (e) => this.clip(e));
        layer.on("postrender", (e) => (e.context as CanvasRenderingContext2D | undefined)?.restore());
      }
      this.map.addLayer(layer);
    }
    const size = this.map.getSize() ?? [800, 600];
    this.map.getView().fit(transformExtent(a.bbox, "EPSG:4326", "EPSG:3857"), { size, padding: [56, 24, 40, 24] });
    this.map.render();
  }

  private async tiles(a: Assessment, id: "pre" | "post" | "damage"): Promise<TileLayer<XYZ>> {
    const info = await tileJson(a, id);
    return new TileLayer({
      source: new XYZ({
        url: `./tiles/${a.id}/${id}/{z}/{x}/{y}.png?rev=${a.revision}`,
        minZoom: info.minzoom,
        maxZoom: info.maxzoom,
        interpolate: id !== "damage",
      }),
      extent: transformExtent(info.bounds, "EPSG:4326", "EPSG:3857"),
      zIndex: id === "pre" ? 1 : id === "post" ? 2 : 9,
      visible: id !== "damage",
      className: id, // a canvas of its own: clipping one picture must not cut the other
    });
  }

  /** Leaves only what lies right of the dividing line. */
  private clip(e: RenderEvent): void {
    const c = e.context as CanvasRenderingContext2D;
    const [width, height] = this.map.getSize() ?? [0, 0];
    const x = this.swipes ? (width ?? 0) * this.divide : 0;
    const corners = [
      [x, 0],
      [width ?? 0, 0],
      [width ?? 0, height ?? 0],
      [x, height ?? 0],
    ].map((p) => getRenderPixel(e, p));
    c.save();
    c.beginPath();
    corners.forEach((p, i) => (i ? c.lineTo(p[0] ?? 0, p[1] ?? 0) : c.moveTo(p[0] ?? 0, p[1] ?? 0)));
    c.closePath();
    c.clip();
  }

  setDivide(share: number, on: boolean): void {
    this.divide = share;
    this.swipes = on;
    this.map.render();
  }

  setOpacity(v: number): void {
    this.opacity = v;
    this.styles.clear();
    this.buildings.changed();
    this.raster?.setOpacity(v);
  }

  private style(f: Feature<Geometry>, resolution: number): Style[] {
    const name = String(f.get("dmg_class") ?? "unknown");
    const withLetter = resolution < letterResolution;
    const isSelected = f === this.selected;
    const isOpen = f.get("status") === "abstain"; // too close to call: pale, with a broken outline
    const key = `${name} ${withLetter} ${isSelected} ${isOpen}`;
    let styles = this.styles.get(key);
    if (!styles) {
      const l = look(name);
      const dash = l.pattern === "outline" || isOpen ? { lineDash: isOpen ? [7, 4] : [4, 3] } : {};
      const halo = new Stroke({ color: "#ffffff", width: isSelected ? 7 : 3 });
      const stroke = new Stroke({ color: isSelected ? "#0057d9" : l.ink, width: isSelected ? 4 : 1.5, ...dash });
      const inside = new Fill({ color: fill(name, this.opacity * (isOpen ? 0.4 : 1)) ?? "rgba(0,0,0,0.01)" });
      styles = [
        new Style({ stroke: halo, image: new CircleStyle({ radius: 7, stroke: halo }) }),
        new Style({
          stroke,
          fill: inside,
          image: new CircleStyle({ radius: 7, stroke, fill: inside }), // footprints may be points
          ...(withLetter && {
            text: new Text({
              text: l.letter,
              font: "bold 13px sans-serif",
              fill: new Fill({ color: "#000000" }),
              stroke: new Stroke({ color: "#ffffff", width: 3 }),
            }),
          }),
          zIndex: isSelected ? 2 : 1,
        }),
      ];
      this.styles.set(key, styles);
    }
    return styles;
  }

  choose(f: Feature<Geometry> | null, center?: boolean): void {
    this.selected = f;
    this.buildings.changed();
    const g = f?.getGeometry();
    if (center && g) {
      const view = this.map.getView();
      const e = g.getExtent();
      const middle: Coordinate = [((e[0] ?? 0) + (e[2] ?? 0)) / 2, ((e[1] ?? 0) + (e[3] ?? 0)) / 2];
      if (!containsExtent(view.calculateExtent(), e)) view.setCenter(middle);
    }
    this.events.chosen(f);
  }

  /** Buildings of the view and a margin, page by page; a later call ends an earlier one. */
  private async load(): Promise<void> {
    const a = this.assessment;
    if (!a) return;
    const view = this.map.getView().calculateExtent();
    if (this.loaded && containsExtent(this.loaded, view)) {
      this.report(view);
      return;
    }
    this.request?.abort();
    const request = (this.request = new AbortController());
    const extent = buffer(view, getWidth(view) / 4);
    this.events.loading();
    try {
      const box = lonlat(extent).map((v) => v.toFixed(7)).join(",");
      let page: Page = await items(a, `bbox=${box}&limit=${pageSize}`, request.signal);
      const features = page.features;
      const tooMany = page.numberMatched > maxDrawn;
      for (let query = next(page); query && !tooMany; query = next(page)) {
        page = await items(a, query, request.signal);
        features.push(...page.features);
      }
      if (request.signal.aborted) return;
      this.buildings.setVisible(!tooMany);
      this.raster?.setVisible(tooMany);
      if (tooMany) {
        this.loaded = null;
        this.source.clear();
        this.events.shown(null, page.numberMatched);
        return;
      }
      const chosen = this.selected?.getId();
      this.source.clear();
      this.source.addFeatures(
        new GeoJSON().readFeatures({ type: "FeatureCollection", features }, { featureProjection: "EPSG:3857" }) as Feature<Geometry>[],
      );
      if (chosen !== undefined) this.selected = this.source.getFeatureById(chosen) as Feature<Geometry> | null;
      this.loaded = extent;
      this.report(view);
    } catch (e) {
      if (!request.signal.aborted) this.events.failed(e instanceof Error ? e.message : String(e));
    }
  }

  private report(view: Extent): void {
    const inView = this.source.getFeaturesInExtent(view);
    this.events.shown(inView, inView.length);
  }
}
