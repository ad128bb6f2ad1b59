// SPDX-License-Identifier: Apache-2.0
// The frame around every view: header with the steps of the work, language, slow-link switch, and whether all labels are
// saved; and which view the address asks for. A server without a data root only shows maps: there is no work to do, so the
// map opens at once.
import { useEffect, useRef, useState } from "preact/hooks";
import { assessment, server, session, logOut, type Assessment, type Server, type Session } from "./api.js";
import { follow, isActive, jobs } from "./lib/jobs.js";
import { chooseLanguage, language, languages, number, t, word, type Key } from "./lib/i18n.js";
import { saveState, settle, unsaved } from "./lib/labelstore.js";
import { online } from "./lib/net.js";
import { lowBandwidth } from "./lib/prefs.js";
import { go, hrefOf, place, steps, type Step } from "./lib/route.js";
import { Failure, Notice, useLoaded } from "./lib/ui.js";
import { Checks } from "./views/checks.js";
import { LabelView } from "./views/label.js";
import { LogIn } from "./views/login.js";
import { MapView } from "./views/mapview.js";
import { NewAssessment } from "./views/new.js";
import { ReportView } from "./views/report.js";
import { Review } from "./views/review.js";
import { Share } from "./views/share.js";
import { Sources } from "./views/sources.js";
import { Start } from "./views/start.js";
import { Validate } from "./views/validate.js";

const views: Record<Step, (props: { a: Assessment; changed: () => void }) => preact.JSX.Element> = {
  sources: Sources,
  checks: Checks,
  label: LabelView,
  map: MapView,
  review: Review,
  validate: Validate,
  report: ReportView,
  share: Share,
};

export const stepName = (step: Step): string => t(`step_${step}` as Key);

function SaveState() {
  const n = unsaved.value.length;
  const troubled = unsaved.value.filter((x) => x.refused).length;
  const text = troubled
    ? t("saveTrouble", number(troubled))
    : n === 0
      ? t("saveAll")
      : t(saveState.value === "waiting" ? "saveWaiting" : "saveBusy", number(n));
  return (
    <p id="save-state" role="status" class={n && (troubled || saveState.value === "waiting") ? "waiting" : ""}>
      {text}
    </p>
  );
}

/** Labels someone else changed meanwhile, or that the server refused: the user decides. */
function Troubles() {
  const list = unsaved.value.filter((x) => x.refused);
  if (list.length === 0) return null;
  return (
    <Notice kind="warn">
      <ul class="plain">
        {list.slice(0, 5).map((x) => (
          <li>
            {t(x.conflict ? "conflict" : "refused", x.building, word("class", x.label?.dmg_class ?? "unknown"))} {!x.conflict && x.refused}{" "}
            {x.conflict && (
              <button type="button" onClick={() => settle(x, true)}>
                {t("keepMine")}
              </button>
            )}{" "}
            <button type="button" onClick={() => settle(x, false)}>
              {t(x.conflict ? "keepTheirs" : "dropIt")}
            </button>
          </li>
        ))}
      </ul>
    </Notice>
  );
}

function Tools({ who, out }: { who: Session | null; out: () => void }) {
  return (
    <div class="tools">
      <label class="check">
        <input id="low-bandwidth" type="checkbox" checked={lowBandwidth.value} onChange={(e) => (lowBandwidth.value = e.currentTarget.checked)} /> {t("lowBandwidth")}
      </label>
      <label>
        <span class="hidden">{t("language")}</span>
        <select id="language" onChange={(e) => chooseLanguage(e.currentTarget.value)}>
          {languages.map(([tag, name]) => (
            <option value={tag} lang={tag} selected={tag === language}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {who?.auth && who.role !== "none" && (
        <button type="button" onClick={out}>
          {t("logOut", who.name)}
        </button>
      )}
    </div>
  );
}

function Steps({ a, at }: { a: Assessment; at: Step }) {
  return (
    <nav class="steps" aria-label={t("steps")}>
      <ol>
        {steps.map((s, i) => (
          <li>
            <a href={hrefOf(a.id, s)} aria-current={s === at ? "step" : undefined}>
              <span class="ordinal">{number(i + 1)}</span> {stepName(s)}
            </a>
          </li>
        ))}
      </ol>
    </nav>
  );
}

function Work({ id, step, all }: { id: string; step: Step; all: Server }) {
  const { value: told, error, reload } = useLoaded(() => assessment(id), [id]);
  const passing = told?.state === "new" || told?.state === "importing";
  // A server that has just been started again says "importing" of what it has yet to open. What was once seen ready stays so:
  // nobody's desk is cleared for that.
  const opened = useRef<Assessment | null>(null);
  if (told && !passing) opened.current = told;
  const a = passing ? (opened.current ?? told) : told;
  const finished = jobs.value.filter((j) => !isActive(j)).length;
  useEffect(() => follow(all.data_root ? id : ""), [id, all.data_root]);
  useEffect(() => {
    // A job that ended may have changed what there is; what it made can be seen a moment after its end is told.
    if (!finished) return undefined;
    reload();
    const timers = [500, 2000, 5000].map((ms) => setTimeout(reload, ms));
    return () => timers.forEach(clearTimeout);
  }, [finished]);
  const reached = online.value;
  useEffect(() => {
    if (reached && told) reload(); // what the server did while it was out of reach
  }, [reached]);
  useEffect(() => {
    // The server tells the end of a job a moment before what the job made can be seen.
    if (!passing) return;
    const timer = setInterval(reload, 2000);
    return () => clearInterval(timer);
  }, [passing]);
  useEffect(() => {
    const name = a?.id === id ? a.title : t("title");
    document.title = all.data_root ? `${name} – ${stepName(step)} – aftermap` : `${name} – aftermap`;
  }, [a, id, step]);
  const View = all.data_root ? views[step] : MapView;
  return (
    <>
      {a && all.data_root && <Steps a={a} at={step} />}
      <main id="main" class={`view ${step}`} tabIndex={-1}>
        <Failure error={error} />
        {a && a.id === id && <View key={`${id}/${all.data_root ? step : "map"}`} a={a} changed={reload} />}
      </main>
    </>
  );
}

function Picker({ all, id }: { all: Server; id: string }) {
  return (
    <label>
      {t("chooseMap")}{" "}
      <select id="picker" onChange={(e) => go(hrefOf(e.currentTarget.value, "map"))}>
        {all.assessments.map((a) => (
          <option value={a.id} selected={a.id === id}>
            {a.title}
          </option>
        ))}
      </select>
    </label>
  );
}

export function App() {
  const [who, setWho] = useState<Session | null>(null);
  const { value: all, error, reload } = useLoaded(server, [who?.role]);
  const at = place.value;
  useEffect(() => {
    session().then(setWho, () => setWho(null));
  }, []);
  useEffect(reload, [at.name]);
  // A viewer has no list to start from.
  const viewed = all && !all.data_root && at.name !== "assessment" ? all.assessments[0]?.id : undefined;
  const id = viewed ?? at.id;
  const title = all?.assessments.find((a) => a.id === id)?.title;
  const mustLogIn = who?.auth === true && who.role === "none";
  useEffect(() => {
    if (at.name !== "assessment") document.title = `${t("title")} – aftermap`;
  }, [at.name]);
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), (document.getElementById("list-title") ?? document.getElementById("main"))?.focus())}>
        {t("skip")}
      </a>
      <header>
        {all?.data_root ? (
          <a class="brand" href="#/">
            aftermap
          </a>
        ) : (
          <span class="brand">aftermap</span>
        )}
        {all?.data_root ? title && <span class="title">{title}</span> : all && all.assessments.length > 1 && <Picker all={all} id={id} />}
        {all && !all.data_root && all.assessments.length === 1 && <span class="title">{title}</span>}
        {!online.value && (
          <p class="offline" role="status">
            {t("offline")}
          </p>
        )}
        {all?.data_root && <SaveState />}
        <p id="status" role="status" />
        <Tools who={who} out={() => void logOut().then(() => location.reload())} />
      </header>
      <Troubles />
      {mustLogIn ? (
        <LogIn done={setWho} />
      ) : (
        <>
          <Failure error={all ? null : error} />
          {all && (viewed ?? (at.name === "assessment" && at.id)) && <Work key={id} id={id} step={viewed ? "map" : at.step} all={all} />}
          {all?.data_root && at.name === "start" && <Start all={all} />}
          {all?.data_root && at.name === "new" && <NewAssessment />}
        </>
      )}
    </>
  );
}
