// SPDX-License-Identifier: Apache-2.0
// The map of an assessment: predict all buildings, then look at damage, probability, uncertainty or shifts, filter, count,
// choose, download. Also all there is on a server that only shows maps.
import type Feature from "ol/Feature.js";
import type Geometry from "ol/geom/Geometry.js";
import { useEffect, useRef, useState } from "preact/hooks";
import { classes, count, execute, type Assessment } from "../api.js";
import { number, percent, t, word, type Key } from "../lib/i18n.js";
import { started } from "../lib/jobs.js";
import { busyWith, LastJob } from "../lib/jobview.js";
import { Failure, Heading, useAction, useLoaded } from "../lib/ui.js";
import { Details, Downloads, Find, Legend, List, type Counts } from "../map/panel.js";
import type { DamageMap } from "../map/map.js";
import { missingImages, Stage } from "../map/stage.js";
import type { Theme } from "../map/buildingstyle.js";
import { isReady, NotReady } from "./label.js";

const themes: Theme[] = ["damage", "prob", "uncertainty", "shift"];

async function countAll(a: Assessment): Promise<Counts> {
  const names = await classes(a);
  const counts = await Promise.all(names.map(async (n) => [n, await count(a, `dmg_class=${encodeURIComponent(n)}`)] as const));
  return { classes: new Map(counts), open: await count(a, "status=abstain") };
}

function PredictAll({ a }: { a: Assessment }) {
  const { busy, error, run } = useAction();
  return (
    <section class="predict">
      <button type="button" id="predict" class={a.collection ? "" : "primary"} disabled={busy || busyWith("predict")} onClick={() => run(async () => started(await execute("predict", { assessment: a.id })))}>
        {t(a.state === "predicted" ? "predictAgain" : "predictAll")}
      </button>
      <Failure error={error} />
      <LastJob process="predict" />
    </section>
  );
}

interface Filter {
  cls: string;
  status: string;
  min: number;
}

const queryOf = (f: Filter): string =>
  [f.cls && `dmg_class=${encodeURIComponent(f.cls)}`, f.status && `status=${f.status}`, f.min > 0 && `min_p=${f.min}`].filter(Boolean).join("&");

function Filters({ names, value, change }: { names: string[]; value: Filter; change: (f: Filter) => void }) {
  return (
    <details class="filters">
      <summary>{t("filter")}</summary>
      <label class="field">
        {t("damageClass")}
        <select id="filter-class" value={value.cls} onChange={(e) => change({ ...value, cls: e.currentTarget.value })}>
          <option value="">{t("all")}</option>
          {names.map((n) => (
            <option value={n}>{word("class", n)}</option>
          ))}
        </select>
      </label>
      <label class="field">
        {t("status")}
        <select id="filter-status" value={value.status} onChange={(e) => change({ ...value, status: e.currentTarget.value })}>
          <option value="">{t("all")}</option>
          {["ok", "abstain", "unknown"].map((s) => (
            <option value={s}>{word("status", s)}</option>
          ))}
        </select>
      </label>
      <label class="field">
        {t("minProbability", percent(value.min))}
        <input id="filter-p" type="range" min={0} max={1} step={0.05} value={value.min} onChange={(e) => change({ ...value, min: Number(e.currentTarget.value) })} />
      </label>
    </details>
  );
}

export function MapView({ a }: { a: Assessment }) {
  const map = useRef<DamageMap | null>(null);
  const canWork = a.etag !== undefined && a.etag !== null;
  const { value: counts, error } = useLoaded(async () => (a.collection && a.bbox ? countAll(a) : null), [a.id, a.revision]);
  const [found, setFound] = useState<{ features: Feature<Geometry>[] | null; matched: number }>({ features: [], matched: 0 });
  const [chosen, setChosen] = useState<Feature<Geometry> | null>(null);
  const [theme, setTheme] = useState<Theme>("damage");
  const [opacity, setOpacity] = useState(60);
  const [compare, setCompare] = useState(true);
  const [filter, setFilter] = useState<Filter>({ cls: "", status: "", min: 0 });
  useEffect(() => map.current?.setTheme(a.state === "ready" ? "label" : theme), [theme, a.state]);
  useEffect(() => map.current?.setOpacity(opacity / 100), [opacity]);
  useEffect(() => map.current?.setFilter(queryOf(filter)), [filter]);
  if (canWork && !isReady(a)) return <NotReady a={a} />;
  if (!a.collection || !a.bbox)
    return (
      <div class="page">
        <Heading>{t("step_map")}</Heading>
        <p>{t("noMapYet")}</p>
        <PredictAll a={a} />
      </div>
    );
  const missing = missingImages(a);
  const mapped = a.state !== "ready"; // before the first prediction there are outlines only
  const hasShift = (found.features ?? []).some((f) => typeof f.get("shift_x") === "number");
  const choose = (f: Feature<Geometry> | null): void => map.current?.choose(f, true);
  return (
    <div class="stage-view">
      <Stage
        a={a}
        swipes={compare}
        made={(m) => {
          map.current = m;
          m.setTheme(mapped ? theme : "label");
          m.setOpacity(opacity / 100);
          m.setFilter(queryOf(filter));
        }}
        shown={(features, matched) => setFound({ features, matched })}
        chosen={setChosen}
      />
      <aside id="panel" aria-label={t("legend")}>
        {canWork && <PredictAll a={a} />}
        <Failure error={error} />
        <section aria-labelledby="legend-title">
          <h2 id="legend-title">{t("legend")}</h2>
          {mapped ? (
            <>
              <label class="field">
                {t("shows")}
                <select id="theme" value={theme} onChange={(e) => setTheme(e.currentTarget.value as Theme)}>
                  {themes
                    .filter((x) => x !== "shift" || hasShift || theme === "shift")
                    .map((x) => (
                      <option value={x}>{t(`theme_${x}` as Key)}</option>
                    ))}
                </select>
              </label>
              {counts && <Legend theme={theme} counts={counts} inView={found.features} />}
            </>
          ) : (
            <p>{t("noMapYet")}</p>
          )}
          <div class="controls">
            <label class="check">
              <input id="compare" type="checkbox" checked={compare} disabled={missing.length > 0} onChange={(e) => setCompare(e.currentTarget.checked)} /> {t("compare")}
            </label>
            {missing.length > 0 && (
              <p id="notes" class="note">
                {missing.map((l) => t("noLayer", t(l.id === "pre" ? "noLayerPre" : "noLayerPost"), l.reason ?? "")).join(" ")}
              </p>
            )}
            {mapped && (
              <>
                <label class="field">
                  {t("opacity")}
                  <input id="opacity" type="range" min={0} max={100} value={opacity} aria-valuetext={percent(opacity / 100)} onInput={(e) => setOpacity(Number(e.currentTarget.value))} />
                </label>
                <Filters names={[...(counts?.classes.keys() ?? [])]} value={filter} change={setFilter} />
                {queryOf(filter) && <p role="status">{t("filtered", number(found.matched))}</p>}
              </>
            )}
          </div>
        </section>
        {mapped && (
          <Details
            f={chosen}
            close={() => {
              choose(null);
              document.getElementById("list-title")?.focus();
            }}
          />
        )}
        <Find a={a} map={map} choose />
        {mapped && (
          <List
            features={found.features}
            matched={found.matched}
            choose={(f) => {
              choose(f);
              document.getElementById("details-title")?.focus();
            }}
          />
        )}
        <Downloads a={a} />
      </aside>
    </div>
  );
}
