// SPDX-License-Identifier: Apache-2.0
// The column beside the map: legend with counts, the chosen building, the list of buildings, downloads. The list is the
// map's equal for those who use a keyboard or a screen reader.
import type Feature from "ol/Feature.js";
import type Geometry from "ol/geom/Geometry.js";
import type { ComponentChildren } from "preact";
import { getCenter } from "ol/extent.js";
import { toLonLat } from "ol/proj.js";
import { useEffect, useRef, useState } from "preact/hooks";
import { items, local, type Assessment, type Link } from "../api.js";
import { date, number, percent, share, t, two, word, type Key } from "../lib/i18n.js";
import { openSwatch, order, stepSwatch, swatch } from "../lib/palette.js";
import { ClassMark, Failure, useAction } from "../lib/ui.js";
import type { DamageMap } from "./map.js";
import { ramp, rampStep, uncertainty, type Theme } from "./buildingstyle.js";

const maxListed = 100;

type Found = Feature<Geometry>;

function Picture({ of }: { of: () => HTMLCanvasElement }) {
  const ref = useRef<HTMLSpanElement>(null);
  useEffect(() => ref.current?.replaceChildren(of()), []);
  return <span ref={ref} aria-hidden="true" />;
}

export interface Counts {
  classes: Map<string, number>;
  open: number;
}

/** What the colours, patterns, letters and digits mean, and how many buildings of each are in view and in all. */
export function Legend({ theme, counts, inView }: { theme: Theme; counts: Counts; inView: Found[] | null }) {
  const names = [...counts.classes.keys()].sort((x, y) => ((order.indexOf(x) + 99) % 99) - ((order.indexOf(y) + 99) % 99));
  const seen = new Map<string, number>();
  for (const f of inView ?? []) {
    const name = String(f.get("dmg_class") ?? "unknown");
    seen.set(name, (seen.get(name) ?? 0) + 1);
  }
  const here = (n: number | undefined): string => (inView ? number(n ?? 0) : "–");
  if (theme === "shift") return <p>{t("legendShift")}</p>;
  if (theme === "prob" || theme === "uncertainty") {
    const steps = [0, 0, 0, 0, 0];
    for (const f of inView ?? []) {
      const v = theme === "prob" ? (f.get("p_dmg") as number | null) : uncertainty(f);
      if (typeof v === "number") steps[rampStep(v)]!++;
    }
    return (
      <table id="legend">
        <thead>
          <tr>
            <th scope="col">{t(theme === "prob" ? "pDamaged" : "uncertainty")}</th>
            <th scope="col" class="count">
              {t("legendView")}
            </th>
          </tr>
        </thead>
        <tbody>
          {ramp.map((colour, i) => (
            <tr>
              <th scope="row">
                <Picture of={() => stepSwatch(colour, String(i * 2))} /> {percent(i / 5)} – {percent((i + 1) / 5)}
              </th>
              <td class="count">{here(steps[i])}</td>
            </tr>
          ))}
        </tbody>
      </table>
    );
  }
  return (
    <table id="legend">
      <thead>
        <tr>
          <th scope="col">{t("legendClass")}</th>
          <th scope="col" class="count">
            {t("legendView")}
          </th>
          <th scope="col" class="count">
            {t("legendAll")}
          </th>
        </tr>
      </thead>
      <tbody>
        {names.map((name) => (
          <tr key={name}>
            <th scope="row">
              <ClassMark name={name} />
            </th>
            <td class="count">{here(seen.get(name))}</td>
            <td class="count">{number(counts.classes.get(name) ?? 0)}</td>
          </tr>
        ))}
        {counts.open > 0 && (
          <tr>
            <th scope="row">
              <span class="key">
                <Picture of={openSwatch} /> <span>{t("legendOpen")}</span>
              </span>
            </th>
            <td class="count">{here(inView?.filter((f) => f.get("status") === "abstain").length)}</td>
            <td class="count">{number(counts.open)}</td>
          </tr>
        )}
      </tbody>
    </table>
  );
}

/** Everything known of the chosen building. */
export function Details({ f, close }: { f: Found | null; close: () => void }) {
  const title = useRef<HTMLHeadingElement>(null);
  const text = (name: string): string | null => (f?.get(name) as string | null | undefined) ?? null;
  const value = (name: string): number | null => (f?.get(name) as number | null | undefined) ?? null;
  const rows: [Key, ComponentChildren][] = [];
  if (f) {
    rows.push(["damageClass", <ClassMark key={text("dmg_class")} name={text("dmg_class") ?? "unknown"} />]);
    const p = value("p_dmg");
    rows.push(["pDamaged", p === null ? t("notGiven") : share(p)]);
    if (text("status")) rows.push(["status", word("status", text("status") ?? "")]);
    if (text("reason")) rows.push(["reason", word("reason", text("reason") ?? "")]);
    const area = value("area_m2");
    rows.push(["area", area === null ? t("notGiven") : t("squareMetres", number(area))]);
    const [dx, dy, q] = [value("shift_x"), value("shift_y"), value("shift_q")];
    if (dx !== null && dy !== null) rows.push(["shift", `${t("shiftNow", two(dx), two(dy))}${q === null ? "" : ` (${t("matchQuality", two(q))})`}`]);
    const g = f.getGeometry();
    if (g) {
      const [lon, lat] = toLonLat(getCenter(g.getExtent()));
      rows.push(["position", <bdi dir="ltr">{`${(lat ?? 0).toFixed(5)}, ${(lon ?? 0).toFixed(5)}`}</bdi>]);
    }
    if (text("updated")) rows.push(["updated", date(text("updated") ?? "")]);
  }
  const bars = (["p_none", "p_minor", "p_major", "p_destr"] as const).filter((k) => value(k) !== null);
  return (
    <section id="details" aria-live="polite" aria-labelledby="details-title">
      <h2 id="details-title" tabIndex={-1} ref={title}>
        {t("building")} {f && <bdi>{text("bldg_id") ?? String(f.getId())}</bdi>}
      </h2>
      {!f && <p class="note">{t("noBuilding")}</p>}
      {f && (
        <dl>
          {rows.map(([key, content]) => (
            <>
              <dt>{t(key)}</dt>
              <dd data-key={key}>{content}</dd>
            </>
          ))}
        </dl>
      )}
      {bars.length > 0 && (
        <>
          <h3>{t("probabilities")}</h3>
          <ul class="bars">
            {bars.map((k) => (
              <li data-key={k}>
                <span>{t(k)}</span>
                <meter min={0} max={1} value={value(k) ?? 0} aria-hidden="true" />
                <span class="count">{share(value(k) ?? 0)}</span>
              </li>
            ))}
          </ul>
        </>
      )}
      {f && (
        <button type="button" class="close" onClick={close}>
          {t("close")}
        </button>
      )}
    </section>
  );
}

/** To a building by its id, or to a place by its latitude and longitude. */
export function Find({ a, map, choose }: { a: Assessment; map: { current: DamageMap | null }; choose: boolean }) {
  const [wanted, setWanted] = useState("");
  const [none, setNone] = useState(false);
  const { busy, error, run } = useAction();
  const go = async (): Promise<void> => {
    setNone(false);
    const place = /^\s*([+-]?\d+(?:\.\d+)?)\s*[,;\s]\s*([+-]?\d+(?:\.\d+)?)\s*$/.exec(wanted);
    const [lat, lon] = [Number(place?.[1]), Number(place?.[2])];
    if (Math.abs(lat) < 85 && Math.abs(lon) <= 180) return map.current?.goTo(lon, lat);
    const found = (await items(a, `bldg_id=${encodeURIComponent(wanted.trim())}&limit=1`)).features[0];
    if (found) map.current?.goToBuilding(found, choose);
    else setNone(true);
  };
  return (
    <form class="find" role="search" onSubmit={(e) => (e.preventDefault(), wanted.trim() && run(go))}>
      <label class="field">
        {t("find")}
        <input id="find" type="search" value={wanted} placeholder={t("findHelp")} onInput={(e) => setWanted(e.currentTarget.value)} />
      </label>
      <button disabled={busy}>{t("findGo")}</button>
      <p role="status" class="note">
        {none && t("findNone")}
      </p>
      <Failure error={error} />
    </form>
  );
}

export function List({ features, matched, choose }: { features: Found[] | null; matched: number; choose: (f: Found) => void }) {
  const p = (f: Found): number => (f.get("p_dmg") as number | null) ?? -1;
  const sorted = [...(features ?? [])].sort((x, y) => p(y) - p(x)).slice(0, maxListed);
  const note = !features ? t("tooMany", number(matched)) : matched === 0 ? t("listNone") : matched > maxListed ? t("listMore", number(maxListed), number(matched)) : t("loaded", number(matched));
  return (
    <section aria-labelledby="list-title">
      <h2 id="list-title" tabIndex={-1}>
        {t("list")}
      </h2>
      <p class="note">{note}</p>
      <ol id="list">
        {sorted.map((f) => (
          <li key={String(f.getId())}>
            <button type="button" data-fid={String(f.getId())} onClick={() => choose(f)}>
              <Picture key={String(f.get("dmg_class"))} of={() => swatch(String(f.get("dmg_class") ?? "unknown"))} />
              <bdi>{String(f.get("bldg_id") ?? f.getId())}</bdi>
              <span>{word("class", String(f.get("dmg_class") ?? "unknown"))}</span>
              <span class="count">{p(f) < 0 ? "–" : share(p(f))}</span>
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}

const contents: Record<string, Key> = { damage: "theme_damage", prob: "theme_prob", labels: "labels", scenes: "images", zones: "zones", aoi: "aoi", run: "howMade" };
const formats: Record<string, string> = { tif: "GeoTIFF", gpkg: "GeoPackage", geojson: "GeoJSON", csv: "CSV", json: "JSON" };

/** What a file of the server is, in the reader's language; one that is not known here as the server words it. */
function fileTitle(l: Link): string {
  const [, name, end] = /(\w+)\.(\w+)$/.exec(l.href) ?? [];
  const key = contents[name ?? ""];
  const format = formats[end ?? ""];
  return key && format ? `${t(key)} – ${format}` : l.title;
}

export function Downloads({ a }: { a: Assessment }) {
  const files = a.links.filter((l) => l.rel === "enclosure");
  return (
    <section aria-labelledby="files-title">
      <h2 id="files-title">{t("downloads")}</h2>
      <ul id="files">
        {files.map((l) => (
          <li>
            <a href={local(l)} download="">
              {fileTitle(l)}
            </a>{" "}
            <bdi>({l.href.split("/").pop() ?? ""})</bdi>
          </li>
        ))}
      </ul>
      <p>
        <a href="./api.html">{t("interface")}</a>
      </p>
    </section>
  );
}
