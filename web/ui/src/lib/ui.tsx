// SPDX-License-Identifier: Apache-2.0
// The small parts every view is made of. A verdict is always a word and a sign of its own shape, never colour alone; what
// changes by itself (job state, save state) sits in live regions so that a screen reader hears it.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { number, percent, t, word } from "./i18n.js";
import { swatch } from "./palette.js";
import { hasMoved } from "./route.js";

/**
 * A view's heading; it takes the focus when one comes from another view, so that keyboard and screen reader start there: with
 * the view itself, not a moment later, when a quick hand is somewhere else already.
 */
export function Heading({ children }: { children: ComponentChildren }) {
  const ref = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    if (hasMoved()) ref.current?.focus({ preventScroll: true });
  }, []);
  return (
    <h1 ref={ref} tabIndex={-1}>
      {children}
    </h1>
  );
}

export type Verdict = "pass" | "warn" | "fail" | "none";
const signs: Record<Verdict, string> = { pass: "✓", warn: "!", fail: "✕", none: "–" };

export function VerdictMark({ value }: { value: Verdict }) {
  return (
    <span class={`verdict ${value}`}>
      <span class="sign" aria-hidden="true">
        {signs[value]}
      </span>
      {word("verdict", value)}
    </span>
  );
}

export function Notice({ kind = "warn", children }: { kind?: Verdict; children: ComponentChildren }) {
  return (
    <div class={`notice ${kind}`} role={kind === "fail" ? "alert" : "status"}>
      <span class="sign" aria-hidden="true">
        {signs[kind]}
      </span>
      <div>{children}</div>
    </div>
  );
}

/** What a failed call said; nothing while there is nothing to say. */
export function Failure({ error }: { error: unknown }) {
  if (!error) return null;
  return (
    <Notice kind="fail">
      <bdi lang="en">{error instanceof Error ? error.message : String(error)}</bdi>
    </Notice>
  );
}

export function ClassMark({ name }: { name: string }) {
  const ref = useRef<HTMLSpanElement>(null);
  useEffect(() => ref.current?.replaceChildren(swatch(name)), [name]);
  return (
    <span class="mark">
      <span ref={ref} aria-hidden="true" /> {word("class", name)}
    </span>
  );
}

export function Meter({ value, label }: { value: number; label: string }) {
  return (
    <div class="meter">
      <progress max={1} value={value} aria-label={label} />
      <span class="count">{percent(value)}</span>
    </div>
  );
}

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  right?: boolean;
}

export function Table<T>(props: { caption: string; columns: Column<T>[]; rows: T[]; id?: string; empty?: string }) {
  if (props.rows.length === 0) return <p class="note">{props.empty ?? t("nothingYet")}</p>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={props.caption}>
      <table id={props.id}>
        <caption class="hidden">{props.caption}</caption>
        <thead>
          <tr>
            {props.columns.map((c) => (
              <th scope="col" class={c.right ? "count" : ""}>
                {c.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr>
              {props.columns.map((c, i) =>
                i === 0 ? <th scope="row">{c.cell(row)}</th> : <td class={c.right ? "count" : ""}>{c.cell(row)}</td>,
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Loads once per key; what was shown stays until the next answer is there. */
export function useLoaded<T>(load: () => Promise<T>, keys: unknown[]): { value: T | null; error: unknown; reload: () => void } {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let current = true;
    load().then(
      (v) => current && (setValue(v), setError(null)),
      (e: unknown) => current && setError(e),
    );
    return () => void (current = false);
  }, [...keys, turn]);
  return { value, error, reload: () => setTurn((n) => n + 1) };
}

/** Runs an action behind a button: busy while it runs, its error shown after. */
export function useAction(): { busy: boolean; error: unknown; run: (action: () => Promise<void>) => void } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const run = (action: () => Promise<void>): void => {
    setBusy(true);
    setError(null);
    action().then(
      () => setBusy(false),
      (e: unknown) => {
        setBusy(false);
        setError(e);
      },
    );
  };
  return { busy, error, run };
}

export const countOf = (n: number | null | undefined): string => (n === null || n === undefined ? "–" : number(n));
