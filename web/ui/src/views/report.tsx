// SPDX-License-Identifier: Apache-2.0
// What can be said in total, with intervals, from the random sample; how good the map is at the chosen operating point; and
// the printable report. Without a random sample the server refuses, and its reason is shown instead of numbers.
import { useState } from "preact/hooks";
import { ApiError, estimate, metrics, reportUrl, type Area, type Assessment, type Estimate, type Total } from "../api.js";
import { Curve } from "../lib/charts.js";
import { asOne, language, languages, number, percent, t, two } from "../lib/i18n.js";
import { hrefOf } from "../lib/route.js";
import { ClassMark, Failure, Heading, Notice, Table, useLoaded } from "../lib/ui.js";

const interval = (x: Total | null): string => (x ? asOne(`${number(Math.round(x.estimate))} (${number(Math.floor(x.low))} – ${number(Math.ceil(x.high))})`) : "–");
const shareInterval = (x: Total | null): string => (x ? asOne(`${percent(x.share)} (${percent(x.share_low)} – ${percent(x.share_high)})`) : "–");

function Totals({ e }: { e: Estimate }) {
  const rate = (r: { value: number; low: number; high: number } | null | undefined): string => (r ? asOne(`${two(r.value)} (${two(r.low)} – ${two(r.high)})`) : t("notGiven"));
  return (
    <>
      {e.whole.refused && <Notice kind="fail"><bdi lang="en">{e.whole.refused}</bdi></Notice>}
      <p class="big" id="total-damaged">
        {t("damagedTotal", interval(e.whole.damaged), number(e.whole.n_buildings))}
      </p>
      <p class="note">
        {t("totalFrom", number(e.sample.n_graded), percent(e.level), t(e.cut === 1 ? "cut1" : "cut2"))} {t("mapSays", number(e.whole.n_predicted))}
      </p>
      <Table
        id="totals"
        caption={t("perClass")}
        rows={e.whole.classes ?? []}
        columns={[
          { name: t("damageClass"), cell: (c) => <ClassMark name={c.class} /> },
          { name: t("inSample"), right: true, cell: (c) => number(c.n_sampled) },
          { name: t("estimated"), right: true, cell: interval },
          { name: t("shareOfAll"), right: true, cell: shareInterval },
        ]}
      />
      {e.zones.length > 0 && (
        <>
          <h2>{t("perZone")}</h2>
          <Table
            id="zones"
            caption={t("perZone")}
            rows={e.zones}
            columns={[
              { name: t("zone"), cell: (z: Area) => <bdi>{z.outside ? t("outside") : (z.zone_name ?? z.zone_id ?? "–")}</bdi> },
              { name: t("buildings"), right: true, cell: (z) => number(z.n_buildings) },
              { name: t("inSample"), right: true, cell: (z) => number(z.n_sampled) },
              { name: t("damaged"), right: true, cell: (z) => z.refused ?? interval(z.damaged) },
            ]}
          />
        </>
      )}
      {e.accuracy && (
        <p>
          {t("named", t("precision"), rate(e.accuracy.precision))} · {t("named", t("recall"), rate(e.accuracy.recall))}
        </p>
      )}
      {e.notes.length > 0 && (
        <ul class="note">
          {e.notes.map((n) => (
            <li>
              <bdi lang="en">{n}</bdi>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

/** Precision and recall when another probability is taken as the limit. */
function OperatingPoint({ a }: { a: Assessment }) {
  const { value } = useLoaded(() => metrics(a.id), [a.id]);
  const [limit, setLimit] = useState(0.5);
  const pr = (value?.pr ?? []).map((p) => ({ threshold: p.threshold, precision: p.precision ?? 0, recall: p.recall ?? 0 }));
  if (pr.length === 0) return null;
  const at = pr.reduce((best, p) => (Math.abs(p.threshold - limit) < Math.abs(best.threshold - limit) ? p : best));
  const points = pr.map((p) => ({ x: p.recall, y: p.precision })).sort((x, y) => x.x - y.x);
  return (
    <section>
      <h2>{t("operatingPoint")}</h2>
      <div class="columns">
        <Curve title={t("prTitle")} points={points} x={t("recall")} y={t("precision")} mark={at.recall} xIsShare />
        <div>
          <label class="field">
            {t("limit", two(at.threshold))}
            <input type="range" min={0} max={1} step={0.01} value={limit} aria-valuetext={two(at.threshold)} onInput={(e) => setLimit(Number(e.currentTarget.value))} />
          </label>
          <p role="status">
            {t("named", t("precision"), two(at.precision))} · {t("named", t("recall"), two(at.recall))}
          </p>
          <p class="note">{t("prAbout")}</p>
        </div>
      </div>
    </section>
  );
}

export function ReportView({ a }: { a: Assessment }) {
  const [method, setMethod] = useState("model-assisted");
  const [cut, setCut] = useState(a.cut ?? 2);
  const [lang, setLang] = useState(language);
  const [paper, setPaper] = useState("a4");
  const [by, setBy] = useState("");
  const { value: e, error } = useLoaded(() => estimate(a.id, method, cut), [a.id, a.revision, method, cut]);
  const refused = error instanceof ApiError && error.status === 409;
  return (
    <div class="page">
      <Heading>{t("step_report")}</Heading>
      <div class="inline">
        <label class="field">
          {t("method")}
          <select id="method" value={method} onChange={(x) => setMethod(x.currentTarget.value)}>
            <option value="model-assisted">{t("methodAssisted")}</option>
            <option value="exact">{t("methodExact")}</option>
          </select>
        </label>
        <label class="field">
          {t("cut")}
          <select value={cut} onChange={(x) => setCut(Number(x.currentTarget.value))}>
            <option value={2}>{t("cut2")}</option>
            <option value={1}>{t("cut1")}</option>
          </select>
        </label>
      </div>
      {refused ? (
        <Notice kind="warn">
          <p id="refused">
            <bdi lang="en">{error.message}</bdi>
          </p>
          <a class="button primary" href={hrefOf(a.id, "validate")}>
            {t("step_validate")}
          </a>
        </Notice>
      ) : (
        <Failure error={error} />
      )}
      {e && !error && <Totals e={e} />}
      <OperatingPoint a={a} />
      {e && !error && (
        <section>
          <h2>{t("printed")}</h2>
          <div class="inline">
            <label class="field">
              {t("language")}
              <select value={lang} onChange={(x) => setLang(x.currentTarget.value)}>
                {languages.map(([tag, name]) => (
                  <option value={tag} lang={tag}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
            <label class="field">
              {t("paper")}
              <select value={paper} onChange={(x) => setPaper(x.currentTarget.value)}>
                <option value="a4">A4</option>
                <option value="letter">Letter</option>
              </select>
            </label>
            <label class="field">
              {t("reviewedBy")}
              <input value={by} maxLength={80} onInput={(x) => setBy(x.currentTarget.value)} />
            </label>
          </div>
          <p>
            <a class="button primary" id="open-report" target="_blank" rel="noopener" href={reportUrl(a, "html", lang, paper, by)}>
              {t("openReport")}
            </a>{" "}
            <a class="button" href={reportUrl(a, "json", lang, paper, by)}>
              JSON
            </a>
          </p>
        </section>
      )}
    </div>
  );
}
