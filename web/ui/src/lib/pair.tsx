// SPDX-License-Identifier: Apache-2.0
// One building before and after the event: side by side, one over the other with a dividing line (swipe), or the picture
// before in the place of the one after while a key is held (flicker). The outline stays where it is in both; a shift moves
// the picture after beneath it, so that a nudge needs no new picture. Metres, x east, y north, from the chip's centre.
import { useEffect, useState } from "preact/hooks";
import { chip, type Assessment, type Building } from "../api.js";
import { date, number, t, two } from "./i18n.js";
import { online } from "./net.js";
import { lowBandwidth } from "./prefs.js";

/** Side of a picture of `size` metres: three for each pixel of the chip show all there is in it, and the browser smooths. */
export function pixels(b: Building, size: number): number {
  if (lowBandwidth.value) return 128;
  return b.gsd_m ? Math.min(384, Math.max(128, 64 * Math.ceil((3 * size) / b.gsd_m / 64))) : 384;
}

/** Metres shown: half the chip unless the building needs more, all of it with context. */
export function shownMetres(b: Building, context: boolean): number {
  const all = b.size_m;
  if (context) return all;
  const reach = Math.max(0, ...b.outline.flat().map(([x, y]) => Math.max(Math.abs(x), Math.abs(y))));
  return Math.min(all, Math.max(all / 2, Math.ceil(reach * 2.6)));
}

export function addresses(a: Assessment, b: Building, context: boolean): [pre: string, post: string] {
  const size = shownMetres(b, context);
  const px = pixels(b, size);
  const moved = b.shift ? `${b.shift.x},${b.shift.y}` : "0";
  return [chip(a.id, b.bldg_id, "pre", size, px, a.created ?? ""), chip(a.id, b.bldg_id, "post", size, px, `${a.created ?? ""} ${moved}`)];
}

/** One picture. Never another building's while it is on its way, and asked for again, ever less often, while it does not come. */
function Picture({ src, alt, style }: { src: string; alt: string; style?: { transform: string } }) {
  const [tries, setTries] = useState(0);
  const [missing, setMissing] = useState(false);
  const reached = online.value;
  useEffect(() => {
    if (!missing) return undefined;
    const again = (): void => (setMissing(false), setTries((n) => n + 1));
    const timer = setTimeout(again, Math.min(15000, 1000 * 2 ** tries));
    return () => clearTimeout(timer);
  }, [missing, reached]);
  return missing ? (
    <p class="missing" role="status">
      {t("chipFailed")}
    </p>
  ) : (
    <img key={tries} src={src} alt={alt} decoding="sync" draggable={false} {...(style && { style })} onError={() => setMissing(true)} />
  );
}

function Outline({ b, size }: { b: Building; size: number }) {
  const half = size / 2;
  const path = b.outline.map((ring) => ring.map(([x, y], i) => `${i ? "L" : "M"}${(x + half).toFixed(2)} ${(half - y).toFixed(2)}`).join("") + "Z").join("");
  return (
    <svg class="outline" viewBox={`0 0 ${size} ${size}`} aria-hidden="true">
      <path class="halo" d={path} />
      <path d={path} />
    </svg>
  );
}

/** Longest round length that takes at most a third of the picture. */
function ScaleBar({ size }: { size: number }) {
  const metres = [50, 20, 10, 5, 2, 1].find((m) => m <= size / 3) ?? 1;
  return (
    <span class="scale-bar" style={{ width: `${(100 * metres) / size}%` }}>
      {t("metres", number(metres))}
    </span>
  );
}

export interface PairProps {
  a: Assessment;
  b: Building;
  shift: [number, number]; // metres, as it stands now with nudges
  flicker?: boolean;
  swipe?: boolean;
  context?: boolean;
  small?: boolean;
  gsd?: { pre: number | null; post: number | null } | null; // metres per pixel
}

export function Pair({ a, b, shift, flicker = false, swipe = false, context = false, small = false, gsd = null }: PairProps) {
  const [divide, setDivide] = useState(50);
  const size = shownMetres(b, context);
  const [pre, post] = addresses(a, b, context);
  const dateOf = (id: string): string => {
    const d = a.layers.find((l) => l.id === id)?.date;
    return d ? date(d) : t("unknownDate");
  };
  // The chip after is cut at the shift the server knows; what goes beyond it is slid here.
  const [dx, dy] = [shift[0] - (b.shift?.x ?? 0), shift[1] - (b.shift?.y ?? 0)];
  const slide = { transform: `translate(${(-100 * dx) / size}%, ${(100 * dy) / size}%)` };
  if (b.page < 0) return <p class="note">{t("noChip")}</p>;
  const before = <Picture key={pre} src={pre} alt={t("before")} />;
  const after = <Picture key={post} src={post} alt={t("after")} style={slide} />;
  const overlay = (
    <>
      <Outline b={b} size={size} />
      {!small && <ScaleBar size={size} />}
    </>
  );
  const pixel = (side: "before" | "after"): string => {
    const metres = gsd?.[side === "before" ? "pre" : "post"];
    return metres ? ` · ${t("gsd")} ${t("metres", two(metres))}` : "";
  };
  const caption = (side: "before" | "after") => (
    <figcaption>
      <strong>{t(side)}</strong> {!small && `${dateOf(side === "before" ? "pre" : "post")}${pixel(side)}`}
    </figcaption>
  );
  return (
    <div class={`pair${small ? " small" : ""}${swipe ? " one" : ""}`}>
      {!swipe && (
        <figure>
          {caption("before")}
          <div class="frame">
            {before}
            {overlay}
          </div>
        </figure>
      )}
      {!swipe && (
        <figure class={flicker ? "flicker" : ""}>
          {caption(flicker ? "before" : "after")}
          <div class="frame">
            {after}
            {flicker && before}
            {overlay}
          </div>
        </figure>
      )}
      {swipe && (
        <figure>
          <figcaption class="both">
            <span>
              <strong>{t("before")}</strong> {dateOf("pre")}
              {pixel("before")}
            </span>
            <span>
              <strong>{t("after")}</strong> {dateOf("post")}
              {pixel("after")}
            </span>
          </figcaption>
          <div class="frame">
            {before}
            {!flicker && (
              <div class="cut-away" style={{ clipPath: `inset(0 0 0 ${divide}%)` }}>
                {after}
              </div>
            )}
            {overlay}
            <div class="divide" style={{ left: `${divide}%` }} />
            <input type="range" min={0} max={100} value={divide} aria-label={t("swipe")} aria-valuetext={t("swipeValue", number(divide))} onInput={(e) => setDivide(Number(e.currentTarget.value))} />
          </div>
        </figure>
      )}
    </div>
  );
}
