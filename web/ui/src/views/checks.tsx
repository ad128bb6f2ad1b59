// SPDX-License-Identifier: Apache-2.0
// Do the inputs fit each other? Each check as word and sign; the alignment as arrows, as a histogram of lengths, and as the
// buildings that match worst, to look at with one's own eyes. Measuring writes a shift per building; resetting takes it back.
import { building, checks, execute, type Alignment, type Assessment, type Checks as Report } from "../api.js";
import { ArrowField, Histogram } from "../lib/charts.js";
import { date, number, percent, t, two, word } from "../lib/i18n.js";
import { busyWith, LastJob } from "../lib/jobview.js";
import { started } from "../lib/jobs.js";
import { hrefOf } from "../lib/route.js";
import { Pair } from "../lib/pair.js";
import { Failure, Heading, Notice, Table, useAction, useLoaded, VerdictMark, type Verdict } from "../lib/ui.js";

const verdictOf = (v: string | undefined): Verdict => (v === "pass" || v === "warn" || v === "fail" ? v : "none");

/** What a check found, from its numbers; what is not known here as the server words it. */
function Found({ report, verdict }: { report: Report; verdict: Report["verdicts"][number] }) {
  const { images, footprints, alignment } = report;
  const text = (): string | null => {
    switch (verdict.check) {
      case "overlap":
        return report.overlap_share === null ? null : t("foundOverlap", percent(report.overlap_share));
      case "coverage":
        return t("keptFootprints", number(footprints.kept), number(footprints.n));
      case "blank":
        return report.blank_share === null ? null : t("foundBlank", percent(report.blank_share));
      case "gsd":
        return images.pre.gsd_m && images.post.gsd_m ? t("foundGsd", two(images.pre.gsd_m), two(images.post.gsd_m)) : null;
      case "dates":
        return (["pre", "post"] as const).map((k) => t("named", t(k === "pre" ? "before" : "after"), images[k].date ? date(images[k].date) : t("unknownDate"))).join(" · ");
      case "alignment":
        return alignment?.aligned ? t("foundShift", percent(alignment.accepted_share ?? 0)) : t("notAligned");
      default:
        return null;
    }
  };
  const own = text();
  return own === null ? <bdi lang="en">{verdict.detail}</bdi> : <>{own}</>;
}

function WorstOne({ a, id, q, by }: { a: Assessment; id: string; q: number; by: string }) {
  const { value } = useLoaded(() => building(a.id, id), [id]);
  return (
    <li class="card">
      <p>
        <bdi>{id}</bdi> · {t("matchQuality", two(q))} · {word("why", by)}
      </p>
      {value && <Pair a={a} b={value} shift={value.shift ? [value.shift.x, value.shift.y] : [0, 0]} small />}
    </li>
  );
}

function AlignmentPart({ a, report }: { a: Assessment; report: Report }) {
  const al: Alignment = report.alignment ?? { aligned: false, chips: 0 };
  const arrows = (al.arrows ?? []).map((f) => ({ lon: f.lon, lat: f.lat, dx: f.shift_x, dy: f.shift_y, q: f.shift_q }));
  const { busy, error, run } = useAction();
  const start = (action: "measure" | "reset") => run(async () => started(await execute("align", { assessment: a.id, action })));
  const running = busyWith("align");
  return (
    <section aria-labelledby="alignment-title">
      <h2 id="alignment-title">{t("alignment")}</h2>
      {!al.aligned && <p>{t("notAligned")}</p>}
      {al.aligned && (
        <>
          <p>
            {t("alignSummary", number(al.measured ?? 0), number(al.chips), percent(al.accepted_share ?? 0), two(al.median_m ?? 0), two(al.max_m ?? 0))}
          </p>
          <div class="columns">
            <ArrowField arrows={arrows} title={t("arrowTitle", number(arrows.length), two(al.median_m ?? 0))} />
            {al.histogram && (
              <figure>
                <Histogram title={t("histogramTitle")} counts={al.histogram.count} top={al.histogram.step_m * al.histogram.count.length} x={t("shiftLength")} y={t("buildings")} />
                <figcaption>{t("histogramTitle")}</figcaption>
              </figure>
            )}
          </div>
        </>
      )}
      <p>
        <button type="button" class={al.aligned ? "" : "primary"} disabled={busy || running} onClick={() => start("measure")}>
          {t(al.aligned ? "alignAgain" : "alignNow")}
        </button>{" "}
        {al.aligned && (
          <button type="button" disabled={busy || running} onClick={() => start("reset")}>
            {t("alignSkip")}
          </button>
        )}{" "}
        <a class="button primary" href={hrefOf(a.id, "label")}>
          {t(al.aligned ? "alignAccept" : "toLabel")}
        </a>
      </p>
      <Failure error={error} />
      <LastJob process="align" />
      {al.worst && al.worst.length > 0 && (
        <>
          <h3>{t("worst")}</h3>
          <ul class="cards" id="worst">
            {al.worst.slice(0, 20).map((w) => (
              <WorstOne key={w.bldg_id} a={a} id={w.bldg_id} q={w.shift_q} by={w.shift_by} />
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

export function Checks({ a }: { a: Assessment }) {
  const { value, error } = useLoaded(() => checks(a.id), [a.id, a.etag, busyWith("align"), busyWith("import")]);
  const imageRows = value ? (["pre", "post"] as const).map((k) => ({ k, ...value.images[k] })) : [];
  return (
    <div class="page">
      <Heading>{t("step_checks")}</Heading>
      <Failure error={error} />
      {value && (
        <>
          <Table
            id="verdicts"
            caption={t("step_checks")}
            rows={value.verdicts}
            columns={[
              { name: t("check"), cell: (v) => word("check", v.check) },
              { name: t("verdict"), cell: (v) => <VerdictMark value={verdictOf(v.verdict)} /> },
              { name: t("detail"), cell: (v) => <Found report={value} verdict={v} /> },
            ]}
          />
          {value.verdicts.some((v) => v.verdict === "fail") && <Notice kind="fail">{t("checksFail")}</Notice>}
          <h2>{t("images")}</h2>
          <Table
            caption={t("images")}
            rows={imageRows}
            columns={[
              { name: t("image"), cell: (i) => t(i.k === "pre" ? "before" : "after") },
              { name: t("date"), cell: (i) => (i.date ? date(i.date) : t("unknownDate")) },
              { name: t("gsd"), right: true, cell: (i) => (i.gsd_m ? t("metres", two(i.gsd_m)) : "–") },
              { name: t("bands"), right: true, cell: (i) => number(i.bands) },
              ...(imageRows.some((i) => i.crs) ? [{ name: t("crs"), cell: (i: (typeof imageRows)[number]) => <bdi>{i.crs ?? "–"}</bdi> }] : []),
            ]}
          />
          <p>
            {t("keptFootprints", number(value.footprints.kept), number(value.footprints.n))}
            {Object.entries(value.footprints.reasons).map(([k, n]) => ` · ${t("named", word("reason", k), number(n))}`)}
          </p>
          <AlignmentPart a={a} report={value} />
        </>
      )}
    </div>
  );
}
