// SPDX-License-Identifier: Apache-2.0
// Single-key commands that work on any keyboard layout: digits by the place of the key (on a French keyboard the digit row
// gives letters without Shift), letters by what they write, or by their place where they write no Latin letter (Arabic).
import { useLayoutEffect, useRef } from "preact/hooks";
import { shortcuts } from "./prefs.js";

/** "0".."9", "a".."z", "space", "enter", "escape", "arrowleft" …; "" when it is none of ours. */
export function keyName(e: KeyboardEvent): string {
  if (e.ctrlKey || e.altKey || e.metaKey) return "";
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(e.code);
  if (digit) return digit[1] ?? "";
  if (/^[0-9]$/.test(e.key)) return e.key;
  if (e.key === " " || e.code === "Space") return "space";
  if (/^[a-z?]$/i.test(e.key)) return e.key.toLowerCase();
  const place = /^Key([A-Z])$/.exec(e.code);
  if (place && /[^\x00-\x7f]/.test(e.key)) return (place[1] ?? "").toLowerCase();
  return e.key.toLowerCase();
}

const own = "a[href], button, summary, [role=button]"; // Space and Enter are theirs
const writing = "input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]";

/** Calls `down` (true: taken) and `up` for keys pressed anywhere on the page except where one writes. */
export function useKeys(down: (key: string, e: KeyboardEvent) => boolean, up?: (key: string) => void): void {
  const now = useRef({ down, up });
  now.current = { down, up };
  useLayoutEffect(() => {
    const onDown = (e: KeyboardEvent): void => {
      const target = e.target as Element | null;
      if (!shortcuts.value || e.defaultPrevented || target?.closest?.(writing)) return;
      const key = keyName(e);
      if ((key === "space" || key === "enter") && target?.closest?.(`${own}, input`)) return;
      if (key.startsWith("arrow") && target?.closest?.("[data-arrows], .ol-viewport, #map")) return;
      if (key && now.current.down(key, e)) e.preventDefault();
    };
    const onUp = (e: KeyboardEvent): void => now.current.up?.(keyName(e));
    const onBlur = (): void => now.current.up?.("space"); // the key's release goes elsewhere
    window.addEventListener("keydown", onDown);
    window.addEventListener("keyup", onUp);
    window.addEventListener("blur", onBlur);
    return () => {
      window.removeEventListener("keydown", onDown);
      window.removeEventListener("keyup", onUp);
      window.removeEventListener("blur", onBlur);
    };
  }, []);
}
