// SPDX-License-Identifier: Apache-2.0
// The blind random sample that the totals stand on: buildings in a drawn order, nothing shown of what the model thinks, none
// left out. How many are needed follows from the half-width one wants.
import { useState } from "preact/hooks";
import { ApiError, metrics, plan, type Assessment } from "../api.js";
import { useQueue } from "../lib/buildings.js";
import { number, percent, t } from "../lib/i18n.js";
import { acknowledged } from "../lib/labelstore.js";
import { hrefOf } from "../lib/route.js";
import { Failure, Heading, Meter, useLoaded } from "../lib/ui.js";
import { Desk } from "./desk.js";
import { isReady, NotReady } from "./label.js";

function Plan({ a }: { a: Assessment }) {
  const [half, setHalf] = useState(0.05);
  const { value, error } = useLoaded(() => plan(a.id, half), [a.id, half, a.revision, Math.floor(acknowledged.value / 5)]);
  const judged = useLoaded(() => metrics(a.id), [a.id, acknowledged.value]).value?.n_validate ?? null;
  const needed = value?.sample_size ? (value.sample_size.n_assisted ?? value.sample_size.n_exact) : null;
  const early = error instanceof ApiError && error.status === 409; // no map, or no judged building yet
  return (
    <section aria-labelledby="plan-title">
      <h2 id="plan-title">{t("sample")}</h2>
      <label class="field">
        {t("halfWidth", percent(half))}
        <input id="half-width" type="range" min={0.02} max={0.15} step={0.01} value={half} aria-valuetext={percent(half)} onInput={(e) => setHalf(Number(e.currentTarget.value))} />
      </label>
      {!early && <Failure error={error} />}
      {judged !== null && needed !== null && value && !early ? (
        <>
          <p id="sample-plan" role="status">
            {t("samplePlan", number(judged), number(needed), number(value.whole.n_buildings))}
          </p>
          <Meter value={needed ? Math.min(1, judged / needed) : 1} label={t("progress")} />
        </>
      ) : (
        <p id="sample-plan" role="status">
          {judged !== null && t("sampleSoFar", number(judged))} <span class="note">{early && <bdi lang="en">{error.message}</bdi>}</span>
        </p>
      )}
      <p>
        <a class="button" href={hrefOf(a.id, "report")}>
          {t("toReport")}
        </a>
      </p>
    </section>
  );
}

export function Validate({ a }: { a: Assessment }) {
  const { items, error, loaded, more } = useQueue(a, "validate");
  if (!isReady(a)) return <NotReady a={a} />;
  return (
    <>
      <div class="bar">
        <Heading>{t("step_validate")}</Heading>
        <p class="note">{t("validateAbout")}</p>
      </div>
      <Failure error={error} />
      <Desk
        a={a}
        items={items}
        more={more}
        purpose={() => "validate"}
        empty={t(loaded ? "sampleDone" : "loading")}
        noSkipping
        about={(b) => <span class="why">{b.draw ? t("drawNumber", number(b.draw)) : ""}</span>}
        aside={<Plan a={a} />}
      />
    </>
  );
}
