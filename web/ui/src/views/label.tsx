// SPDX-License-Identifier: Apache-2.0
// Labelling in two modes that share one store: the queue (which building to ask next is the server's choice) and the map
// (the choice is the user's).
import { useState } from "preact/hooks";
import { type Assessment, type Building } from "../api.js";
import { useQueue } from "../lib/buildings.js";
import { number, t, word } from "../lib/i18n.js";
import { person } from "../lib/prefs.js";
import { hrefOf } from "../lib/route.js";
import { Failure, Heading, Notice } from "../lib/ui.js";
import { Desk } from "./desk.js";
import { LabelMap } from "./labelmap.js";
import { Learning } from "./learning.js";

/** Why this building: known reasons in the reader's language, others as the server words them. */
export function why(b: Building): string {
  if (!b.why) return "";
  const known = word("why", b.why.code);
  return known === b.why.code ? b.why.text : known;
}

function Queue({ a }: { a: Assessment }) {
  const { items, remaining, error, loaded, more } = useQueue(a, "both");
  return (
    <>
      <Failure error={error} />
      <Desk
        a={a}
        items={items}
        more={more}
        purpose={(b) => b.purpose ?? "train"}
        empty={t(loaded ? "queueEmpty" : "loading")}
        about={(b) => (
          <>
            <span class="why">
              {t("whyThis")} {why(b)}
            </span>{" "}
            <span class="note">
              {b.area_m2 !== null && t("squareMetres", number(b.area_m2))}
              {remaining !== null && ` · ${t("remainingBuildings", number(remaining))}`}
            </span>
          </>
        )}
        aside={<Learning a={a} />}
      />
    </>
  );
}

export function NotReady({ a }: { a: Assessment }) {
  return (
    <div class="page">
      <Notice kind="warn">
        {t("notReady")} <a href={hrefOf(a.id, "sources")}>{t("step_sources")}</a>
      </Notice>
    </div>
  );
}

export const isReady = (a: Assessment): boolean => a.state === "ready" || a.state === "predicted";

export function LabelView({ a }: { a: Assessment }) {
  const [mode, setMode] = useState<"queue" | "map">("queue");
  if (!isReady(a)) return <NotReady a={a} />;
  return (
    <>
      <div class="bar">
        <Heading>{t("step_label")}</Heading>
        <div class="modes" role="group" aria-label={t("mode")}>
          <button type="button" aria-pressed={mode === "queue"} onClick={() => setMode("queue")}>
            {t("queueMode")}
          </button>
          <button type="button" id="map-mode" aria-pressed={mode === "map"} disabled={!a.collection} onClick={() => setMode("map")}>
            {t("mapMode")}
          </button>
        </div>
        <label class="inline-field">
          {t("yourName")} <input id="person" value={person.value} maxLength={40} autocomplete="name" onInput={(e) => (person.value = e.currentTarget.value.trim())} />
        </label>
      </div>
      {mode === "queue" ? <Queue a={a} /> : <LabelMap a={a} />}
    </>
  );
}
