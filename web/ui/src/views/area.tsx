// SPDX-License-Identifier: Apache-2.0
// Where an assessment looks, and the zones its totals are split by. The area of interest is everything, the polygons of a
// file, or a rectangle: drawn in the sketch, or written as its four sides, which is the same without a pointer. Degrees,
// longitude and latitude.
import { useState } from "preact/hooks";
import { type VectorInfo, type Zones } from "../api.js";
import { t, type Key } from "../lib/i18n.js";
import { FilesField, type Info } from "./files.js";

export type Box = [west: number, south: number, east: number, north: number];

export interface Area {
  kind: "all" | "file" | "box";
  ref: string;
  box: Box | null;
}

export const everywhere: Area = { kind: "all", ref: "", box: null };

export const isProper = (b: Box | null): b is Box => b !== null && b.every(Number.isFinite) && b[0] < b[2] && b[1] < b[3];

/** What the interface takes: the name of a file, a polygon, or nothing. */
export function areaOf(a: Area): unknown {
  if (a.kind === "file") return a.ref || undefined;
  if (a.kind !== "box" || !isProper(a.box)) return undefined;
  const [w, s, e, n] = a.box;
  return { type: "Polygon", coordinates: [[[w, s], [e, s], [e, n], [w, n], [w, s]]] };
}

/** Whether what was begun is complete. */
export const isComplete = (a: Area): boolean => a.kind === "all" || areaOf(a) !== undefined;

const sides: [Key, number][] = [
  ["west", 0],
  ["south", 1],
  ["east", 2],
  ["north", 3],
];

export function AreaField({ value, change, start, told }: { value: Area; change: (a: Area) => void; start: Box | null; told: (ref: string, info: Info | null) => void }) {
  const kinds: [Area["kind"], Key][] = [
    ["all", "aoiAll"],
    ["file", "aoiFile"],
    ["box", "aoiBox"],
  ];
  const set = (side: number, text: string): void => {
    const box = [...(value.box ?? [NaN, NaN, NaN, NaN])] as Box;
    box[side] = text === "" ? NaN : Number(text);
    change({ ...value, box });
  };
  return (
    <fieldset id="aoi">
      <legend>{t("aoi")}</legend>
      <div class="choices">
        {kinds.map(([kind, key]) => (
          <label class="check">
            <input type="radio" name="aoi" value={kind} checked={value.kind === kind} onChange={() => change({ ...value, kind, box: kind === "box" ? (value.box ?? start) : value.box })} /> {t(key)}
          </label>
        ))}
      </div>
      {value.kind === "file" && <FilesField label={t("aoiFile")} kind="vector" several={false} refs={value.ref ? [value.ref] : []} change={(refs) => change({ ...value, ref: refs[0] ?? "" })} told={told} />}
      {value.kind === "box" && (
        <>
          <p class="note">{t("aoiDraw")}</p>
          <div class="inline">
            {sides.map(([key, side]) => {
              const v = value.box?.[side];
              return (
                <label class="field">
                  {t(key)}
                  <input id={`aoi-${key}`} type="number" step="any" value={v === undefined || Number.isNaN(v) ? "" : v} onInput={(e) => set(side, e.currentTarget.value)} />
                </label>
              );
            })}
          </div>
        </>
      )}
    </fieldset>
  );
}

/** The file of the zones, and which of its columns name them. */
export function ZonesField({ value, change }: { value: Zones | null; change: (z: Zones | null) => void }) {
  const [info, setInfo] = useState<VectorInfo | null>(null);
  const fields = info?.ref === value?.ref ? (info?.layers[0]?.fields ?? []) : [];
  const told = (ref: string, i: Info | null): void => {
    if (i?.kind !== "vector" || i.problem) return;
    setInfo(i);
    change({ ref, id_field: i.layers[0]?.suggested_id_field ?? i.layers[0]?.fields[0]?.name ?? "" });
  };
  const pick = (key: "id_field" | "name_field", text: string): void => {
    if (!value) return;
    const { name_field, ...rest } = { ...value, [key]: text };
    change(name_field ? { ...rest, name_field } : rest);
  };
  const choice = (key: "id_field" | "name_field", label: Key) => (
    <label class="field">
      {t(label)}
      <select id={`zone-${key}`} value={value?.[key] ?? ""} onChange={(e) => pick(key, e.currentTarget.value)}>
        {key === "name_field" && <option value="">{t("noColumn")}</option>}
        {fields.map((f) => (
          <option value={f.name}>{f.name}</option>
        ))}
      </select>
    </label>
  );
  return (
    <>
      <FilesField label={t("zoneFile")} kind="vector" several={false} refs={value ? [value.ref] : []} change={(refs) => change(refs[0] ? { ref: refs[0], id_field: "" } : null)} told={told} />
      {value && fields.length > 0 && (
        <div class="inline" id="zone-columns">
          {choice("id_field", "zoneId")}
          {choice("name_field", "zoneName")}
        </div>
      )}
    </>
  );
}
