// SPDX-License-Identifier: Apache-2.0
// The map: images before and after with a dividing line, buildings above them, or the damage raster when there are too many.
import OlMap from "ol/Map.js";
import View from "ol/View.js";
import { defaults as defaultControls } from "ol/control/defaults.js";
import ScaleLine from "ol/control/ScaleLine.js";
import type { Coordinate } from "ol/coordinate.js";
import DragBox from "ol/interaction/DragBox.js";
import { buffer, containsExtent, getCenter, getWidth, type Extent } from "ol/extent.js";
import type Feature from "ol/Feature.js";
import GeoJSON from "ol/format/GeoJSON.js";
import type Geometry from "ol/geom/Geometry.js";
import TileLayer from "ol/layer/Tile.js";
import VectorLayer from "ol/layer/Vector.js";
import { fromLonLat, transformExtent } from "ol/proj.js";
import { getRenderPixel } from "ol/render.js";
import type RenderEvent from "ol/render/Event.js";
import VectorSource from "ol/source/Vector.js";
import XYZ from "ol/source/XYZ.js";
import { items, next, tileJson, type Assessment, type LayerId, type Page } from "../api.js";
import { t } from "../lib/i18n.js";
import { lowBandwidth } from "../lib/prefs.js";
import { Styles, type Theme } from "./buildingstyle.js";

const pageSize = 2000;
const maxDrawn = 8000; // buildings in view above this are shown as a raster
const near_m = 0.5; // metres per pixel at which one building is looked at
const reach = 4; // pixels beside a building that still count as a click on it

export interface MapEvents {
  /** The buildings in view changed; null: too many to hold, `matched` of them. */
  shown: (features: Feature<Geometry>[] | null, matched: number) => void;
  chosen: (feature: Feature<Geometry> | null) => void;
  failed: (message: string) => void;
  loading: () => void;
  /** A rectangle was drawn around these. */
  boxed?: (features: Feature<Geometry>[]) => void;
  /** The label a person gave, while labels are shown. */
  labelOf?: (feature: Feature<Geometry>) => string | null;
}

const lonlat = (e: Extent): Extent => transformExtent(e, "EPSG:3857", "EPSG:4326");

export class DamageMap {
  readonly map: OlMap;
  private readonly source = new VectorSource<Feature<Geometry>>();
  private readonly buildings: VectorLayer<VectorSource<Feature<Geometry>>>;
  private pictures: TileLayer<XYZ>[] = [];
  private rasters = new Map<LayerId, TileLayer<XYZ>>();
  private assessment: Assessment | null = null;
  private loaded: Extent | null = null;
  private asked: Extent | null = null; // what the request under way will bring
  private request: AbortController | null = null;
  private selected: Feature<Geometry> | null = null;
  private marked = new Set<string | number>();
  private wanted: number | null = null; // to be chosen as soon as it is loaded
  private divide = 0.5;
  private swipes = true;
  private filter = "";
  private tooMany = false;
  private hidden = false; // outlines, on the user's wish
  private readonly look = {
    theme: "damage" as Theme,
    opacity: 0.6,
    selected: (f: Feature<Geometry>): boolean => f === this.selected || this.marked.has(f.getId() ?? ""),
    labelOf: (f: Feature<Geometry>): string | null => this.events.labelOf?.(f) ?? null,
  };
  private readonly styles = new Styles(this.look);
  private box: DragBox | null = null;

  constructor(target: HTMLElement, private readonly events: MapEvents) {
    this.buildings = new VectorLayer({
      source: this.source,
      style: (f, resolution) => this.styles.of(f as Feature<Geometry>, resolution),
      zIndex: 10,
    });
    this.map = new OlMap({
      target,
      layers: [this.buildings],
      controls: defaultControls({ attribution: true, rotate: false, attributionOptions: { collapsible: false } }).extend([
        new ScaleLine({ minWidth: 80 }),
      ]),
      view: new View({ center: [0, 0], zoom: 2 }),
      ...(lowBandwidth.value ? { pixelRatio: 1 } : {}),
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
    this.loaded = this.asked = null;
    this.source.clear();
    this.source.setAttributions(t("attribution", a.version ? ` ${a.version}` : ""));
    this.choose(null);
    for (const layer of [...this.pictures, ...this.rasters.values()]) this.map.removeLayer(layer);
    this.pictures = [];
    this.rasters.clear();
    for (const l of a.layers) {
      if (!l.available) continue;
      const layer = await this.tiles(a, l.id);
      if (l.id === "pre" || l.id === "post") this.pictures.push(layer);
      else this.rasters.set(l.id, layer);
      // Each picture on its own side only: where one has a gap, the other must not be taken for it.
      if (l.id === "post" || (l.id === "pre" && a.layers.some((x) => x.id === "post" && x.available))) {
        layer.on("prerender", (e) => this.clip(e, l.id === "pre"));
        layer.on("postrender", (e) => (e.context as CanvasRenderingContext2D | undefined)?.restore());
      }
      this.map.addLayer(layer);
    }
    const size = this.map.getSize() ?? [800, 600];
    this.map.getView().fit(transformExtent(a.bbox ?? [-180, -85, 180, 85], "EPSG:4326", "EPSG:3857"), { size, padding: [56, 24, 40, 24] });
    this.map.render();
    // The map tells of a move from its second frame on, and without pictures there may be one frame only.
    void this.load();
  }

  private async tiles(a: Assessment, id: LayerId): Promise<TileLayer<XYZ>> {
    const info = await tileJson(a, id);
    return new TileLayer({
      source: new XYZ({
        url: `./tiles/${encodeURIComponent(a.id)}/${id}/{z}/{x}/{y}.png?rev=${a.revision}`,
        minZoom: info.minzoom,
        maxZoom: info.maxzoom,
        interpolate: id === "pre" || id === "post",
      }),
      extent: transformExtent(info.bounds, "EPSG:4326", "EPSG:3857"),
      zIndex: id === "pre" ? 1 : id === "post" ? 2 : 9,
      visible: id === "pre" || id === "post",
      className: id, // a canvas of its own: clipping one picture must not cut the other
    });
  }

  /** Leaves only what lies on the picture's side of the dividing line: before to the left, after to the right. */
  private clip(e: RenderEvent, isBefore: boolean): void {
    const c = e.context as CanvasRenderingContext2D;
    const [width, height] = this.map.getSize() ?? [0, 0];
    const x = this.swipes ? (width ?? 0) * this.divide : 0;
    const [from, to] = isBefore ? [0, x] : [x, width ?? 0];
    const corners = [
      [from, 0],
      [to, 0],
      [to, height ?? 0],
      [from, height ?? 0],
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
    this.look.opacity = v;
    for (const r of this.rasters.values()) r.setOpacity(v);
    this.restyle();
  }

  /** What the buildings show. */
  setTheme(theme: Theme): void {
    this.look.theme = theme;
    this.restyle();
    this.showRaster();
  }

  /** Only buildings that fit; written as the query of the collection ("dmg_class=major&min_p=0.5"). */
  setFilter(query: string): void {
    if (query === this.filter) return;
    this.filter = query;
    this.reload();
  }

  /** Buildings beside the chosen one that are marked, by id. */
  setMarked(ids: Iterable<string | number>): void {
    this.marked = new Set(ids);
    this.buildings.changed();
  }

  restyle(): void {
    this.styles.clear();
    this.buildings.changed();
  }

  reload(): void {
    this.loaded = this.asked = null;
    void this.load();
  }

  /** Outlines can be put away, to see what they cover. */
  showBuildings(on: boolean): void {
    this.hidden = !on;
    this.buildings.setVisible(on && !this.tooMany);
  }

  /** While on, dragging draws a rectangle instead of moving the map. */
  setBox(on: boolean): void {
    if (this.box) this.map.removeInteraction(this.box);
    this.box = null;
    if (!on) return;
    const box = (this.box = new DragBox({ className: "select-box" }));
    box.on("boxend", () => this.events.boxed?.(this.source.getFeaturesInExtent(box.getGeometry().getExtent())));
    this.map.addInteraction(box);
  }

  /** The raster stands in for buildings that are too many to draw. */
  private showRaster(): void {
    const id = this.look.theme === "label" ? null : this.rasters.has(this.look.theme) ? this.look.theme : "damage";
    for (const [name, layer] of this.rasters) layer.setVisible(this.tooMany && name === id);
  }

  dispose(): void {
    this.request?.abort();
    this.map.setTarget(undefined);
    this.map.dispose();
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

  /** Goes to a place, near enough to see single buildings. */
  goTo(lon: number, lat: number): void {
    this.move(fromLonLat([lon, lat]));
  }

  /** Goes to a building of the collection, and chooses it if asked to. */
  goToBuilding(f: Page["features"][number], choose: boolean): void {
    const g = (new GeoJSON().readFeature(f, { featureProjection: "EPSG:3857" }) as Feature<Geometry>).getGeometry();
    if (choose) this.wanted = f.id;
    if (g) this.move(getCenter(g.getExtent()));
  }

  private move(to: Coordinate): void {
    const view = this.map.getView();
    view.setCenter(to);
    const resolution = near_m * Math.cosh((to[1] ?? 0) / 6378137); // Mercator stretches the metres of the ground
    if ((view.getResolution() ?? 0) > resolution) view.setResolution(resolution);
    void this.load(); // where the view was there already, no move is told
  }

  /** Buildings of the view and a margin, page by page; a later call for other ground ends an earlier one. */
  private async load(): Promise<void> {
    const a = this.assessment;
    if (!a) return;
    const view = this.map.getView().calculateExtent();
    if (this.loaded && containsExtent(this.loaded, view)) {
      this.report(view);
      return;
    }
    if (this.asked && containsExtent(this.asked, view)) return;
    this.request?.abort();
    const request = (this.request = new AbortController());
    const extent = (this.asked = buffer(view, getWidth(view) / 4));
    this.events.loading();
    try {
      const box = lonlat(extent).map((v) => v.toFixed(7)).join(",");
      const query = `bbox=${box}&limit=${pageSize}${this.filter ? `&${this.filter}` : ""}`;
      let page: Page = await items(a, query, request.signal);
      const features = page.features;
      const tooMany = page.numberMatched > maxDrawn;
      for (let more = next(page); more && !tooMany; more = next(page)) {
        page = await items(a, more, request.signal);
        features.push(...page.features);
      }
      if (request.signal.aborted) return;
      this.asked = null;
      this.tooMany = tooMany;
      this.buildings.setVisible(!tooMany && !this.hidden);
      this.showRaster();
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
      this.report(this.map.getView().calculateExtent());
    } catch (e) {
      if (request.signal.aborted) return;
      this.asked = null;
      this.events.failed(e instanceof Error ? e.message : String(e));
    }
  }

  private report(view: Extent): void {
    const wanted = this.wanted === null ? null : (this.source.getFeatureById(this.wanted) as Feature<Geometry> | null);
    if (wanted) {
      this.wanted = null;
      this.choose(wanted);
    }
    const inView = this.source.getFeaturesInExtent(view);
    this.events.shown(inView, inView.length);
  }
}
