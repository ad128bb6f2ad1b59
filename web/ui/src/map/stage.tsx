// SPDX-License-Identifier: Apache-2.0
// The map with its dividing line between the images before and after, as a component. What is loaded and chosen is told
// upwards; what it shows is commanded through the DamageMap it hands out once.
import type Feature from "ol/Feature.js";
import type Geometry from "ol/geom/Geometry.js";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Assessment } from "../api.js";
import { date, number, t } from "../lib/i18n.js";
import { DamageMap } from "./map.js";

export interface StageProps {
  a: Assessment;
  swipes: boolean;
  made: (map: DamageMap) => void;
  shown: (features: Feature<Geometry>[] | null, matched: number) => void;
  chosen: (feature: Feature<Geometry> | null) => void;
  boxed?: (features: Feature<Geometry>[]) => void;
  labelOf?: (feature: Feature<Geometry>) => string | null;
}

const status = (text: string): void => {
  const node = document.getElementById("status");
  if (node) node.textContent = text;
};

export const missingImages = (a: Assessment) => a.layers.filter((l) => (l.id === "pre" || l.id === "post") && !l.available);

export function Stage(props: StageProps) {
  const target = useRef<HTMLDivElement>(null);
  const map = useRef<DamageMap | null>(null);
  const now = useRef(props);
  now.current = props;
  const [divide, setDivide] = useState(50);
  const canSwipe = missingImages(props.a).length === 0;
  const on = canSwipe && props.swipes;
  useEffect(() => {
    if (!target.current) return;
    const made = (map.current = new DamageMap(target.current, {
      shown: (features, matched) => {
        status(features ? t("loaded", number(matched)) : t("tooMany", number(matched)));
        now.current.shown(features, matched);
      },
      chosen: (f) => now.current.chosen(f),
      failed: (message) => status(t("failed", message)),
      loading: () => status(t("loading")),
      boxed: (features) => now.current.boxed?.(features),
      labelOf: (f) => now.current.labelOf?.(f) ?? null,
    }));
    now.current.made(made);
    made.open(now.current.a).catch((e: unknown) => status(t("failed", e instanceof Error ? e.message : String(e))));
    return () => {
      made.dispose();
      status("");
    };
  }, [props.a.id, props.a.revision]);
  useEffect(() => map.current?.setDivide(divide / 100, on), [divide, on]);
  const dateOf = (id: string): string => {
    const d = props.a.layers.find((l) => l.id === id)?.date;
    return d ? date(d) : t("unknownDate");
  };
  return (
    <div id="stage" dir="ltr">
      <div id="map" ref={target} tabIndex={0} role="application" aria-label={t("mapLabel")} />
      <div id="line" aria-hidden="true" hidden={!on} style={{ left: `${divide}%` }} />
      <span class="side" id="before" hidden={!on}>
        {t("before")} · {dateOf("pre")}
      </span>
      <span class="side" id="after" hidden={!on}>
        {t("after")} · {dateOf("post")}
      </span>
      <input
        id="swipe"
        type="range"
        min={0}
        max={100}
        step={1}
        hidden={!on}
        value={divide}
        aria-label={t("swipe")}
        aria-valuetext={t("swipeValue", number(divide))}
        onInput={(e) => setDivide(Number(e.currentTarget.value))}
      />
    </div>
  );
}
