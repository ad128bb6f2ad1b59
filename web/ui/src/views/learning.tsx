// SPDX-License-Identifier: Apache-2.0
// How learning goes, beside the desk: labels per class, when the next model is trained, the learning curve of the models so
// far, and when it is time to stop. Refreshes when labels arrive at the server and when a training ends.
import { useEffect, useRef } from "preact/hooks";
import { execute, jobs as listJobs, metrics, type Assessment, type Metrics } from "../api.js";
import { Curve } from "../lib/charts.js";
import { duration, number, percent, t, two } from "../lib/i18n.js";
import { isActive, jobs, newest, started } from "../lib/jobs.js";
import { busyWith, LastJob } from "../lib/jobview.js";
import { acknowledged } from "../lib/labelstore.js";
import { ClassMark, Failure, Notice, useAction, useLoaded } from "../lib/ui.js";
import { levels } from "./desk.js";

const predictUpTo = 5000; // buildings that are mapped anew after every training without being asked

/** Asks for a process unless one is under way already, here or from another desk. */
async function launch(a: Assessment, process: string): Promise<void> {
  if ((await listJobs(a.id)).some((j) => j.processID === process && isActive(j))) return;
  started(await execute(process, { assessment: a.id }));
}

/** The server trains by itself; what it learnt is mapped from here, so that the queue asks where the newest model is unsure. */
function useMapping(a: Assessment, run: (action: () => Promise<void>) => void): void {
  const training = busyWith("train");
  const was = useRef(training);
  useEffect(() => {
    if (was.current && !training && newest("train")?.status === "successful" && a.buildings <= predictUpTo) run(() => launch(a, "predict"));
    was.current = training;
  }, [training]);
}

const refreshEvery = 1500; // ms at most while labels pour in

function Facts({ m }: { m: Metrics }) {
  const last = m.curve[m.curve.length - 1];
  const rows: [string, number | null | undefined, (v: number) => string][] = [
    [t("f1"), (last?.f1 ?? m.validation?.f1) as number | null, two],
    [t("precision"), m.validation?.precision, two],
    [t("recall"), m.validation?.recall, two],
    [t("ap"), last?.ap, two],
    [t("changed"), last?.changed_share, percent],
    [t("secondsPerModel"), m.seconds_per_model, duration],
  ];
  return (
    <dl class="facts" id="model-facts">
      {rows
        .filter(([, v]) => typeof v === "number")
        .map(([k, v, form]) => (
          <>
            <dt>{k}</dt>
            <dd>{form(v ?? 0)}</dd>
          </>
        ))}
    </dl>
  );
}

export function Learning({ a }: { a: Assessment }) {
  const ended = jobs.value.filter((j) => !isActive(j)).length;
  const { value: m, error, reload } = useLoaded(() => metrics(a.id), [a.id, ended, a.revision]);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => {
    if (!acknowledged.value || timer.current) return;
    timer.current = setTimeout(() => {
      timer.current = null;
      reload();
    }, refreshEvery);
  }, [acknowledged.value]);
  useEffect(() => () => void (timer.current && clearTimeout(timer.current)), []);
  const { busy, error: failed, run } = useAction();
  useMapping(a, run);
  if (!m) return <Failure error={error} />;
  const left = m.next_train_at;
  const points = m.curve.filter((p) => typeof p.f1 === "number").map((p) => ({ x: p.n_labels ?? 0, y: p.f1 ?? 0, low: p.f1_low ?? null, high: p.f1_high ?? null }));
  return (
    <section aria-labelledby="learning-title">
      <h2 id="learning-title">{t("learning")}</h2>
      <table id="label-counts">
        <thead>
          <tr>
            <th scope="col">{t("labels")}</th>
            <th scope="col" class="count">
              {t("toTeach")}
            </th>
            <th scope="col" class="count">
              {t("toCheck")}
            </th>
          </tr>
        </thead>
        <tbody>
          {[...levels, "unknown"].map((name) => (
            <tr>
              <th scope="row">
                <ClassMark name={name} />
              </th>
              <td class="count">{number(m.labels.train[name] ?? 0)}</td>
              <td class="count">{number(m.labels.validate[name] ?? 0)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {left !== null && !busyWith("train") && <p class="note">{left === 0 ? t("trainSoon") : t("trainAfter", number(left))}</p>}
      <LastJob process="train" />
      {busyWith("predict") && <LastJob process="predict" />}
      {m.curve.length > 0 && (
        <>
          {points.length > 0 && <Curve title={t("curveTitle")} points={points} x={t("labels")} y={t("f1")} />}
          <Facts m={m} />
        </>
      )}
      {m.stop_suggested && <Notice kind="pass">{t("stopSuggested")}</Notice>}
      <p>
        <button type="button" id="train" disabled={busy || busyWith("train") || m.n_train < 2} onClick={() => run(async () => started(await execute("train", { assessment: a.id })))}>
          {t("trainNow")}
        </button>
      </p>
      <Failure error={failed} />
    </section>
  );
}
