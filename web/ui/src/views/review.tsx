// SPDX-License-Identifier: Apache-2.0
// Second looks, sorted by what is most worth one: where the model is unsure, what is large, where model and person disagree,
// where the images fit badly. The log below tells who decided what and when; nothing is ever overwritten in it.
import { useState } from "preact/hooks";
import { history, review, type Assessment, type Building, type ReviewList } from "../api.js";
import { date, number, share, t, word, type Key } from "../lib/i18n.js";
import { acknowledged } from "../lib/labelstore.js";
import { ClassMark, Failure, Heading, useLoaded } from "../lib/ui.js";
import { Desk, levels } from "./desk.js";
import { isReady, NotReady, why } from "./label.js";

const lists: ReviewList[] = ["uncertain", "large", "contradiction", "disagreement", "alignment"];
const length = 50;

/** A level the model names; from a model of two classes only "undamaged" says which level is meant. */
function proposal(b: Building): string | null {
  const name = b.prediction?.dmg_class ?? "";
  return (levels as readonly string[]).includes(name) ? name : name === "undamaged" ? "none" : null;
}

function Log({ a }: { a: Assessment }) {
  const { value, error } = useLoaded(() => history(a.id, 0), [a.id, acknowledged.value]);
  const rows = [...(value?.entries ?? [])].sort((x, y) => y.seq - x.seq).slice(0, 100);
  return (
    <details class="log">
      <summary>{t("log")}</summary>
      <Failure error={error} />
      <ol class="plain" id="log">
        {rows.map((r) => (
          <li key={r.seq}>
            <bdi>{r.bldg_id}</bdi> <strong>{r.action === "clear" ? t("takenBack") : word("class", r.dmg_class)}</strong>
            {r.action !== "clear" && r.reason && ` (${word("reason", r.reason)})`}{" "}
            <span class="note">
              {r.by && <bdi>{r.by}, </bdi>}
              {word("purpose", r.purpose)}, {date(r.updated)}
            </span>
          </li>
        ))}
      </ol>
    </details>
  );
}

export function Review({ a }: { a: Assessment }) {
  const [list, setList] = useState<ReviewList>("uncertain");
  const { value, error } = useLoaded(() => review(a.id, list, length), [a.id, list, a.revision]);
  if (!isReady(a)) return <NotReady a={a} />;
  return (
    <>
      <div class="bar">
        <Heading>{t("step_review")}</Heading>
        <div class="modes" role="group" aria-label={t("reviewLists")}>
          {lists.map((x) => (
            <button type="button" aria-pressed={x === list} data-list={x} onClick={() => setList(x)}>
              {t(`review_${x}` as Key)}
            </button>
          ))}
        </div>
      </div>
      <Failure error={error} />
      {value && (
        <Desk
          key={list}
          a={a}
          items={value.items}
          purpose={(b) => b.label?.purpose ?? "train"}
          proposal={proposal}
          empty={t("reviewEmpty")}
          about={(b) => (
            <>
              {b.prediction && (
                <span class="prediction">
                  {t("modelSays")} <ClassMark name={b.prediction.dmg_class} /> ({share(b.prediction.p_dmg)})
                </span>
              )}{" "}
              <span class="why">{why(b)}</span> <span class="note">{b.area_m2 !== null && t("squareMetres", number(b.area_m2))}</span>
            </>
          )}
          aside={
            <>
              <p class="note">{t("reviewAbout", number(value.items.length))}</p>
              <Log a={a} />
            </>
          }
        />
      )}
    </>
  );
}
