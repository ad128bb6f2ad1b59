// SPDX-License-Identifier: Apache-2.0
// Language of the page: one catalogue per language under strings/, all with the same keys (the type of en.ts demands it),
// and numbers, dates and durations in the language's own form. The language is fixed for a page load: choosing another
// one reloads the page, which loses nothing because labels are kept by labelstore.ts and the place is in the address.
import { ar } from "../strings/ar.js";
import { en, type Catalogue, type Key } from "../strings/en.js";
import { es } from "../strings/es.js";
import { fr } from "../strings/fr.js";

export type { Key } from "../strings/en.js";

const catalogues: Record<string, Catalogue> = { en, fr, es, ar };

/** Languages on offer, each by its own name. */
export const languages: [tag: string, name: string][] = [
  ["en", "English"],
  ["fr", "Français"],
  ["es", "Español"],
  ["ar", "العربية"],
];

const stored = "aftermap.language";

export const language = ((): string => {
  for (const wanted of [localStorage.getItem(stored) ?? "", ...navigator.languages]) {
    const tag = wanted.split("-")[0] ?? "";
    if (tag in catalogues) return tag;
  }
  return "en";
})();

export const direction: "ltr" | "rtl" = language === "ar" ? "rtl" : "ltr";

export function chooseLanguage(tag: string): void {
  localStorage.setItem(stored, tag);
  location.reload();
}

const catalogue = catalogues[language] ?? en;

/** The sentence of a key, with {0}, {1} … filled in. */
export function t(key: Key, ...args: (string | number)[]): string {
  return catalogue[key].replace(/\{(\d)\}/g, (_, i: string) => String(args[Number(i)] ?? ""));
}

type Kind = "class" | "status" | "reason" | "event" | "verdict" | "job" | "process" | "purpose" | "check" | "why";

/** The word for a value of the data ("class", "destroyed"); values without one show as they are. */
export function word(kind: Kind, value: string): string {
  return (catalogue as Record<string, string>)[`${kind}_${value}`] ?? value;
}

// A region with a preference of its own ("fr-CA") writes its numbers its own way.
const locale = navigator.languages.find((l) => l.split("-")[0] === language) ?? language;
const plain = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat(locale, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const probability = new Intl.NumberFormat(locale, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const hundredths = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

/** Keeps a value and its interval together and in one order, also where the line runs from right to left. */
export const asOne = (text: string): string => (direction === "rtl" ? `\u2066${text}\u2069` : text);

export const number = (v: number): string => plain.format(v);
export const two = (v: number): string => fine.format(v);
export const share = (v: number): string => probability.format(v);
export const percent = (v: number): string => hundredths.format(v);

/** A day ("2011-05-22") or an instant in the reader's form; what is no date is shown as it came. */
export function date(text: string): string {
  const value = new Date(text);
  if (Number.isNaN(value.getTime())) return text;
  return text.length <= 10 ? day.format(value) : moment.format(value);
}

export function bytes(n: number): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000;
  const form = { style: "unit", unit: units[i], maximumFractionDigits: 1 } as Intl.NumberFormatOptions;
  return new Intl.NumberFormat(locale, form).format(n);
}

/** Seconds as "45 sec", "12 min" or "3.5 hr" in the reader's language. */
export function duration(seconds: number): string {
  const [unit, value] = seconds < 90 ? ["second", seconds] : seconds < 5400 ? ["minute", seconds / 60] : ["hour", seconds / 3600];
  const form = { style: "unit", unit, maximumFractionDigits: unit === "hour" ? 1 : 0 } as Intl.NumberFormatOptions;
  return new Intl.NumberFormat(locale, form).format(value as number);
}
