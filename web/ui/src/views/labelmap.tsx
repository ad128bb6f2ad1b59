// SPDX-License-Identifier: Apache-2.0
// Labelling on the map: choose buildings by click, by box, or in the list beside it, then press a level key or button.
// Buildings without a label are an outline only, so that nothing suggests an answer.
import type Feature from "ol/Feature.js";
import type Geometry from "ol/geom/Geometry.js";
import { useEffect, useRef, useState } from "preact/hooks";
import { labels, type Assessment, type StoredLabel } from "../api.js";
import { number, t, word } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { pendingOf, save, seen, unsaved } from "../lib/labelstore.js";
import { person } from "../lib/prefs.js";
import { ClassMark, Failure, useLoaded } from "../lib/ui.js";
import type { DamageMap } from "../map/map.js";
import { Find } from "../map/panel.js";
import { Stage } from "../map/stage.js";
import { KeyList, levels, reasons } from "./desk.js";

const listed = 100;

export function LabelMap({ a }: { a: Assessment }) {
  const map = useRef<DamageMap | null>(null);
  const { value, error } = useLoaded(() => labels(a.id), [a.id]);
  const held = useRef(new Map<string, StoredLabel>());
  const [inView, setInView] = useState<Feature<Geometry>[]>([]);
  const [chosen, setChosen] = useState<string[]>([]); // bldg_id
  const [box, setBox] = useState(false);
  const [swipes, setSwipes] = useState(true);
  const [reason, setReason] = useState("unclear");
  const [outlines, setOutlines] = useState(true);
  const [said, setSaid] = useState("");

  const labelOf = (id: string): string | null => {
    const waiting = pendingOf(a.id, id);
    const l = waiting ? waiting.label : held.current.get(id);
    return l ? (l.dmg_class ?? "unknown") : null;
  };
  const idOf = (f: Feature<Geometry>): string => String(f.get("bldg_id") ?? f.getId());
  useEffect(() => {
    held.current = new Map((value?.labels ?? []).map((l) => [l.bldg_id, l]));
    for (const l of value?.labels ?? []) seen(a.id, l.bldg_id, l.etag);
    map.current?.restyle();
  }, [value]);
  useEffect(() => map.current?.restyle(), [unsaved.value]);
  useEffect(() => map.current?.setBox(box), [box]);
  useEffect(() => map.current?.showBuildings(outlines), [outlines]);
  useEffect(() => {
    const ids = new Set(chosen);
    map.current?.setMarked(inView.filter((f) => ids.has(idOf(f))).map((f) => f.getId() ?? ""));
  }, [chosen, inView]);

  const toggle = (id: string): void => setChosen((old) => (old.includes(id) ? old.filter((x) => x !== id) : [...old, id]));
  const decide = (dmg_class: string): void => {
    for (const id of chosen) {
      const label = { dmg_class, ...(dmg_class === "unknown" ? { reason } : {}), sure: true, note: "", shift: null, ...(person.value ? { by: person.value } : {}), purpose: held.current.get(id)?.purpose ?? ("train" as const) };
      save(a.id, id, label);
      held.current.set(id, { ...held.current.get(id), ...label, bldg_id: id, reason: label.reason ?? "", updated: "", seq: 0, etag: "" } as StoredLabel);
    }
    setSaid(t("decidedMany", number(chosen.length), word("class", dmg_class)));
    setChosen([]);
    map.current?.restyle();
  };
  useKeys((key) => {
    if (/^[0-3]$/.test(key) && chosen.length) return (decide(levels[Number(key)] ?? "none"), true);
    if (key === "4" && chosen.length) return (decide("unknown"), true);
    if (key === "space") return (setOutlines(!outlines), true);
    if (key === "s") return (setSwipes(!swipes), true);
    if (key === "escape") return (setChosen([]), true);
    return false;
  });

  return (
    <div class="stage-view">
      <Stage
        a={a}
        swipes={swipes}
        made={(m) => {
          map.current = m;
          m.setTheme("label");
        }}
        shown={(features) => setInView(features ?? [])}
        chosen={(f) => f && toggle(idOf(f))}
        boxed={(features) => setChosen((old) => [...new Set([...old, ...features.map(idOf)])])}
        labelOf={(f) => labelOf(idOf(f))}
      />
      <aside id="panel" aria-label={t("step_label")}>
        <Failure error={error} />
        <p class="hidden" role="status">
          {said}
        </p>
        <h2 id="chosen-title" tabIndex={-1}>
          {t("chosenCount", number(chosen.length))}
        </h2>
        <div class="levels column">
          {[...levels, "unknown"].map((name, i) => (
            <button type="button" disabled={chosen.length === 0} data-level={i} onClick={() => decide(name)}>
              <kbd aria-hidden="true">{i}</kbd> <ClassMark name={name} />
            </button>
          ))}
        </div>
        <label class="field">
          {t("whyNot")}
          <select value={reason} onChange={(e) => setReason(e.currentTarget.value)}>
            {reasons.map((r) => (
              <option value={r}>{word("reason", r)}</option>
            ))}
          </select>
        </label>
        <div class="controls">
          <label class="check">
            <input type="checkbox" checked={box} onChange={(e) => setBox(e.currentTarget.checked)} /> {t("boxSelect")}
          </label>
          <label class="check">
            <input type="checkbox" checked={swipes} onChange={(e) => setSwipes(e.currentTarget.checked)} /> {t("compare")}
          </label>
          <label class="check">
            <input id="outlines" type="checkbox" checked={outlines} onChange={(e) => setOutlines(e.currentTarget.checked)} /> {t("outlines")}
          </label>
        </div>
        <KeyList
          rows={[
            ["0 – 3", "keyLevel"],
            ["4", "keyUnknown"],
            ["␣", "keyOutlines"],
            ["S", "keySwipe"],
            ["Esc", "keyNone"],
          ]}
        />
        <Find a={a} map={map} choose={false} />
        <h2 id="list-title" tabIndex={-1}>
          {t("list")}
        </h2>
        <p class="note">{inView.length > listed ? t("listFirst", number(listed), number(inView.length)) : t("loaded", number(inView.length))}</p>
        <ul class="plain rows" id="label-list">
          {inView.slice(0, listed).map((f) => {
            const id = idOf(f);
            const name = labelOf(id);
            return (
              <li key={id}>
                <label class="check">
                  <input type="checkbox" checked={chosen.includes(id)} onChange={() => toggle(id)} /> <bdi>{id}</bdi> {name ? <ClassMark name={name} /> : <span class="note">{t("noLabel")}</span>}
                </label>
              </li>
            );
          })}
        </ul>
      </aside>
    </div>
  );
}
