// SPDX-License-Identifier: Apache-2.0
// The desk where buildings are decided one after the other: labelling, review and validation differ only in which buildings
// come and what is shown beside them. Keys: 0-3 level, 4 cannot tell (then a reason), U undo, Enter next, B back, arrows
// nudge, Space (held) flicker, S swipe, C context. A decision is safe in the browser before the next building is shown
// (labelstore.ts).
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { checks, type Assessment, type Building, type Label, type Purpose } from "../api.js";
import { date, number, t, two, word, type Key } from "../lib/i18n.js";
import { useKeys } from "../lib/keys.js";
import { pendingOf, save, seen } from "../lib/labelstore.js";
import { addresses, Pair } from "../lib/pair.js";
import { goesOn, lowBandwidth, person, shortcuts } from "../lib/prefs.js";
import { hasMoved } from "../lib/route.js";
import { ClassMark, useLoaded } from "../lib/ui.js";

export const levels = ["none", "minor", "major", "destroyed"] as const;
export const reasons = ["nodata", "cloud", "shadow", "smoke", "vegetation", "off_nadir", "misreg", "no_building", "under_construction", "unclear"] as const;

interface Done {
  at: number;
  b: Building;
  before: Label | null;
}

export interface DeskProps {
  a: Assessment;
  items: Building[];
  /** Called as the end of the list comes near. */
  more?: () => void;
  purpose: (b: Building) => Purpose;
  /** What is said about the building beside the pictures. */
  about?: (b: Building) => ComponentChildren;
  aside?: ComponentChildren;
  empty: string;
  /** The class the model proposes, where one key may accept it. */
  proposal?: (b: Building) => string | null;
  /** In a drawn order no building may be left out. */
  noSkipping?: boolean;
}

/** The label as the user last left it: what waits here, or what the server has. */
function present(a: Assessment, b: Building): Label | null {
  const waiting = pendingOf(a.id, b.bldg_id);
  return waiting ? waiting.label : b.label;
}

function startShift(a: Assessment, b: Building): [number, number] {
  const hand = present(a, b)?.shift;
  return hand ?? [b.shift?.x ?? 0, b.shift?.y ?? 0];
}

/** Fetches pictures of the next buildings, after everything else; what is not there when one goes on is given up. */
function ahead(sources: string[]): () => void {
  const images = sources.map((src) => {
    const image = new Image();
    image.fetchPriority = "low";
    image.src = src;
    return image;
  });
  return () => images.filter((i) => !i.complete).forEach((i) => (i.src = ""));
}

const moves: Record<string, [number, number]> = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, 1], arrowdown: [0, -1] };
const step_m = 0.25;

/** What keys do, one to a line; what else belongs to it below. */
export function KeyList({ rows, children }: { rows: [string, Key][]; children?: ComponentChildren }) {
  return (
    <details class="help">
      <summary>{t("keys")}</summary>
      <dl>
        {rows.map(([key, what]) => (
          <>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{t(what)}</dd>
          </>
        ))}
      </dl>
      <label class="check">
        <input type="checkbox" checked={shortcuts.value} onChange={(e) => (shortcuts.value = e.currentTarget.checked)} /> {t("shortcutsOn")}
      </label>
      {children}
    </details>
  );
}

function Help() {
  const rows: [string, Key][] = [
    ["0 – 3", "keyLevel"],
    ["4", "keyUnknown"],
    ["Enter", "keyNext"],
    ["B", "keyBack"],
    ["U", "keyUndo"],
    ["␣", "keyFlicker"],
    ["S", "keySwipe"],
    ["C", "keyContext"],
    ["← ↑ → ↓", "keyNudge"],
  ];
  return (
    <KeyList rows={rows}>
      <label class="check">
        <input id="goes-on" type="checkbox" checked={goesOn.value} onChange={(e) => (goesOn.value = e.currentTarget.checked)} /> {t("goesOn")}
      </label>
    </KeyList>
  );
}

function Reasons({ choose, close, now }: { choose: (reason: string) => void; close: () => void; now: string }) {
  const first = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => first.current?.focus(), []);
  return (
    <div class="reasons" role="group" aria-label={t("whyNot")}>
      <p>{t("whyNot")}</p>
      {reasons.map((r, i) => (
        <button type="button" ref={i === 0 ? first : undefined} aria-pressed={now === r} data-reason={r} onClick={() => choose(r)}>
          <kbd aria-hidden="true">{(i + 1) % 10}</kbd> {word("reason", r)}
        </button>
      ))}
      <button type="button" onClick={close}>
        <kbd aria-hidden="true">Esc</kbd> {t("cancel")}
      </button>
    </div>
  );
}

export function Desk(props: DeskProps) {
  const { a, items } = props;
  const [at, setAt] = useState(0);
  const b = items[at];
  const [shift, setShift] = useState<[number, number]>([0, 0]);
  const [flicker, setFlicker] = useState(false);
  const [swipe, setSwipe] = useState(false);
  const [context, setContext] = useState(false);
  const [asking, setAsking] = useState(false);
  const [said, setSaid] = useState("");
  const [unsure, setUnsure] = useState(false);
  const [note, setNote] = useState("");
  const [done, setDone] = useState<Done[]>([]);
  const root = useRef<HTMLDivElement>(null);
  const images = useLoaded(() => checks(a.id), [a.id]).value?.images;
  const gsd = images ? { pre: images.pre.gsd_m, post: images.post.gsd_m } : null;

  // Before the next key can come, painted or not: otherwise a quick hand gives a building the last one's nudge and note, and
  // a version of its label that nobody looked at.
  useLayoutEffect(() => {
    if (!b) return;
    const now = present(a, b);
    seen(a.id, b.bldg_id, b.label?.etag ?? null);
    setShift(startShift(a, b));
    setUnsure(now?.sure === false);
    setNote(now?.note ?? "");
    setAsking(false);
  }, [b?.bldg_id]);
  useEffect(() => (b && !lowBandwidth.value ? ahead(items.slice(at + 1, at + 3).flatMap((x) => addresses(a, x, context))) : undefined), [b?.bldg_id]);
  useEffect(() => {
    if (items.length - at <= 5) props.more?.();
  }, [at, items.length]);
  useLayoutEffect(() => {
    if (hasMoved()) root.current?.focus({ preventScroll: true });
  }, []);

  const move = (to: number): void => setAt(Math.max(0, Math.min(items.length, to)));
  const here = (): void => root.current?.focus({ preventScroll: true }); // so that the next key is not taken by a button

  const decide = (dmg_class: string, reason: string, stay = false): void => {
    if (!b) return;
    const nudged = Math.abs(shift[0] - (b.shift?.x ?? 0)) > 1e-6 || Math.abs(shift[1] - (b.shift?.y ?? 0)) > 1e-6;
    setDone([...done, { at, b, before: present(a, b) }]);
    save(a.id, b.bldg_id, {
      dmg_class,
      ...(reason ? { reason } : {}),
      sure: !unsure,
      note,
      shift: nudged ? [Number(shift[0].toFixed(2)), Number(shift[1].toFixed(2))] : null,
      ...(person.value ? { by: person.value } : {}),
      purpose: props.purpose(b),
      ...(b.draw ? { draw: b.draw } : {}),
    });
    setAsking(false);
    setSaid(t("named", b.bldg_id, reason ? `${word("class", dmg_class)}, ${word("reason", reason)}` : word("class", dmg_class)));
    here();
    if (goesOn.value && !stay) move(at + 1);
  };

  const undo = (): void => {
    const last = done[done.length - 1];
    if (!last) return;
    setDone(done.slice(0, -1));
    // Only what the interface takes goes back, not the server's own members.
    const { dmg_class, reason, sure, note: text, shift: hand, by, purpose, draw } = last.before ?? { purpose: "train" as const };
    const old: Label | null = last.before && {
      ...(dmg_class ? { dmg_class } : {}), ...(reason ? { reason } : {}), sure: sure !== false, note: text ?? "", shift: hand ?? null, ...(by ? { by } : {}), purpose, ...(draw ? { draw } : {}),
    };
    save(a.id, last.b.bldg_id, old);
    setSaid(t("undone", last.b.bldg_id));
    move(last.at);
    here();
  };

  useKeys(
    (key, e) => {
      if (!b && key !== "u" && key !== "b") return false;
      if (asking && /^[0-9]$/.test(key)) return (decide("unknown", reasons[(Number(key) + 9) % 10] ?? "unclear"), true);
      if (asking && key === "escape") return (setAsking(false), here(), true);
      if (/^[0-3]$/.test(key)) return (!e.repeat && decide(levels[Number(key)] ?? "none", ""), true);
      const nudge = moves[key];
      if (nudge) return (setShift(([x, y]) => [x + nudge[0] * step_m, y + nudge[1] * step_m]), true);
      switch (key) {
        case "4":
          return (setAsking(true), true);
        case "u":
          return (undo(), true);
        case "b":
          return (move(at - 1), true);
        case "enter":
          return ((!props.noSkipping || (b && present(a, b))) && move(at + 1), true);
        case "a": {
          const proposed = b && props.proposal?.(b);
          return proposed ? (decide(proposed, ""), true) : false;
        }
        case "space":
          return (setFlicker(true), true);
        case "s":
          return (setSwipe(!swipe), true);
        case "c":
          return (setContext(!context), true);
        default:
          return false;
      }
    },
    (key) => key === "space" && setFlicker(false),
  );

  const now = b ? present(a, b) : null;
  return (
    <div class="desk" ref={root} tabIndex={-1} aria-label={t("desk")} role="group">
      <p class="hidden" role="status" id="said">
        {said}
      </p>
      {b ? (
        <>
          <div class="work">
            <div class="head">
              <h2 id="building">
                {t("building")} <bdi>{b.bldg_id}</bdi>
              </h2>
              <div class="about">{props.about?.(b)}</div>
            </div>
            <Pair a={a} b={b} shift={shift} flicker={flicker} swipe={swipe} context={context} gsd={gsd} />
            <div class="levels" role="group" aria-label={t("damageClass")}>
              {levels.map((name, i) => (
                <button type="button" data-level={i} aria-pressed={now?.dmg_class === name} onClick={() => decide(name, "")}>
                  <kbd aria-hidden="true">{i}</kbd> <ClassMark name={name} />
                </button>
              ))}
              <button type="button" data-level="4" aria-pressed={now?.dmg_class === "unknown"} aria-expanded={asking} onClick={() => setAsking(!asking)}>
                <kbd aria-hidden="true">4</kbd> <ClassMark name="unknown" />
              </button>
            </div>
            {asking && <Reasons choose={(r) => decide("unknown", r)} close={() => (setAsking(false), here())} now={now?.reason ?? ""} />}
            <div class="tools-row">
              {props.proposal?.(b) && (
                <button type="button" id="accept" onClick={() => decide(props.proposal?.(b) ?? "", "")}>
                  <kbd aria-hidden="true">A</kbd> {t("accept")}
                </button>
              )}
              <button type="button" onClick={() => (move(at - 1), here())} disabled={at === 0}>
                {t("back")}
              </button>
              <button type="button" onClick={undo} disabled={done.length === 0}>
                {t("undo")}
              </button>
              <button type="button" onClick={() => (move(at + 1), here())} disabled={props.noSkipping && !now}>
                {t("next")}
              </button>
              <button type="button" class="hold" onPointerDown={() => setFlicker(true)} onPointerUp={() => setFlicker(false)} onPointerLeave={() => setFlicker(false)} onPointerCancel={() => setFlicker(false)} onContextMenu={(e) => e.preventDefault()} onKeyDown={(e) => e.key === " " && setFlicker(true)} onKeyUp={() => setFlicker(false)}>
                {t("flicker")}
              </button>
              <button type="button" aria-pressed={swipe} onClick={() => (setSwipe(!swipe), here())}>
                {t("swipeMode")}
              </button>
              <button type="button" aria-pressed={context} onClick={() => (setContext(!context), here())}>
                {t("context")}
              </button>
              <label class="check">
                <input type="checkbox" checked={unsure} onChange={(e) => setUnsure(e.currentTarget.checked)} /> {t("unsure")}
              </label>
              <label class="grow">
                <span class="hidden">{t("note")}</span>
                <input value={note} maxLength={400} placeholder={t("note")} onInput={(e) => setNote(e.currentTarget.value)} />
              </label>
            </div>
            <div class="nudge">
              <span class="arrows">
                {Object.entries({ arrowleft: "←", arrowup: "↑", arrowdown: "↓", arrowright: "→" }).map(([key, sign]) => (
                <button type="button" aria-label={t(`nudge_${key}` as Key)} onClick={() => setShift(([x, y]) => [x + (moves[key]?.[0] ?? 0) * step_m, y + (moves[key]?.[1] ?? 0) * step_m])}>
                  {sign}
                </button>
                ))}
              </span>
              <span>{t("shiftNow", two(shift[0]), two(shift[1]))}</span>{" "}
              {now && (
                <span class="note">
                  {t("labelled", word("class", now.dmg_class ?? "unknown"))}
                  {now.reason ? ` (${word("reason", now.reason)})` : ""} {b.label && `${b.label.by ?? ""} ${date(b.label.updated)}`}
                </span>
              )}
            </div>
          </div>
        </>
      ) : (
        <div class="work">
          <p id="queue-end">{props.empty}</p>
          {done.length > 0 && (
            <button type="button" onClick={undo}>
              {t("undo")}
            </button>
          )}
        </div>
      )}
      <aside class="side-panel" aria-label={t("progress")}>
        <p class="note">{t("thisSession", number(done.length))}</p>
        {props.aside}
        <Help />
      </aside>
    </div>
  );
}
