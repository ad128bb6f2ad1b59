// SPDX-License-Identifier: Apache-2.0
// Drawings as SVG: histogram, curve with error bars, field of shift arrows. Each carries its numbers in words for those who
// do not see it (a title and a table or summary beside it), and uses shape before colour.
import { number, percent, t, two } from "./i18n.js";

interface Frame {
  width: number;
  height: number;
}

const margin = { left: 54, right: 20, top: 10, bottom: 36 };

/** Round steps (1, 2, 5 x 10^k) that cut [0, top] into at most n parts. */
function ticks(top: number, n: number): number[] {
  if (!(top > 0)) return [0];
  const raw = top / n;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * base).find((s) => s >= raw) ?? raw;
  const out: number[] = [];
  for (let v = 0; v <= top * 1.0001; v += step) out.push(v);
  return out;
}

function Axes(props: Frame & { xTicks: [at: number, text: string][]; yTicks: [at: number, text: string][]; x: string; y: string }) {
  const bottom = props.height - margin.bottom;
  return (
    <g class="axes">
      {props.yTicks.map(([at, text]) => (
        <g>
          <line x1={margin.left} x2={props.width - margin.right} y1={at} y2={at} />
          <text x={margin.left - 5} y={at + 4} text-anchor="end">
            {text}
          </text>
        </g>
      ))}
      {props.xTicks.map(([at, text]) => (
        <text x={at} y={bottom + 14} text-anchor="middle">
          {text}
        </text>
      ))}
      <text x={(margin.left + props.width) / 2} y={props.height - 3} text-anchor="middle">
        {props.x}
      </text>
      <text transform={`translate(13 ${(margin.top + bottom) / 2}) rotate(-90)`} text-anchor="middle">
        {props.y}
      </text>
    </g>
  );
}

/** Counts over equal bins from 0 to `top`. */
export function Histogram(props: { title: string; counts: number[]; top: number; x: string; y: string }) {
  const frame = { width: 380, height: 190 };
  const most = Math.max(1, ...props.counts);
  const w = (frame.width - margin.left - margin.right) / Math.max(1, props.counts.length);
  const h = frame.height - margin.top - margin.bottom;
  const y = (v: number): number => margin.top + h - (v / most) * h;
  const x = (v: number): number => margin.left + (v / props.top) * w * props.counts.length;
  return (
    <svg class="chart" viewBox={`0 0 ${frame.width} ${frame.height}`} role="img" aria-label={props.title} dir="ltr">
      <Axes
        {...frame}
        x={props.x}
        y={props.y}
        xTicks={ticks(props.top, 6).map((v) => [x(v), number(v)])}
        yTicks={ticks(most, 4).map((v) => [y(v), number(v)])}
      />
      {props.counts.map((n, i) => (
        <rect class="bar" x={margin.left + i * w + 1} y={y(n)} width={Math.max(1, w - 2)} height={margin.top + h - y(n)} />
      ))}
    </svg>
  );
}

export interface CurvePoint {
  x: number;
  y: number;
  low?: number | null;
  high?: number | null;
}

/** Values in [0, 1] over a count, each with its interval as an error bar. */
export function Curve(props: { title: string; points: CurvePoint[]; x: string; y: string; mark?: number | null; xIsShare?: boolean }) {
  const frame = { width: 380, height: 200 };
  const right = props.xIsShare ? 1 : Math.max(10, ...props.points.map((p) => p.x)) * 1.05;
  const w = frame.width - margin.left - margin.right;
  const h = frame.height - margin.top - margin.bottom;
  const x = (v: number): number => margin.left + (v / right) * w;
  const y = (v: number): number => margin.top + h - Math.min(1, Math.max(0, v)) * h;
  const last = props.points[props.points.length - 1];
  const summary = last ? `${props.title}: ${t("curveLast", props.xIsShare ? percent(last.x) : number(last.x), two(last.y))}` : props.title;
  return (
    <svg class="chart" viewBox={`0 0 ${frame.width} ${frame.height}`} role="img" aria-label={summary} dir="ltr">
      <Axes
        {...frame}
        x={props.x}
        y={props.y}
        xTicks={ticks(right, 5).map((v) => [x(v), props.xIsShare ? two(v) : number(v)])}
        yTicks={[0, 0.25, 0.5, 0.75, 1].map((v) => [y(v), two(v)])}
      />
      <polyline class="line" points={props.points.map((p) => `${x(p.x)},${y(p.y)}`).join(" ")} />
      {props.points.map((p) => (
        <g class="point">
          {p.low !== undefined && p.low !== null && p.high !== undefined && p.high !== null && (
            <path d={`M${x(p.x)} ${y(p.low)}V${y(p.high)}M${x(p.x) - 3} ${y(p.low)}h6M${x(p.x) - 3} ${y(p.high)}h6`} />
          )}
          {props.points.length <= 40 && <circle cx={x(p.x)} cy={y(p.y)} r={3} />}
        </g>
      ))}
      {props.mark !== undefined && props.mark !== null && <line class="cut" x1={x(props.mark)} x2={x(props.mark)} y1={margin.top} y2={margin.top + h} />}
    </svg>
  );
}

export interface Arrow {
  lon: number;
  lat: number;
  dx: number; // metres east
  dy: number; // metres north
  q: number; // 0..1
}

/** Shifts where they were measured, drawn longer by a factor that the caption names; faint where the match was poor. */
export function ArrowField({ arrows, title }: { arrows: Arrow[]; title: string }) {
  const frame = { width: 380, height: 300 };
  if (arrows.length === 0) return null;
  const lons = arrows.map((a) => a.lon);
  const lats = arrows.map((a) => a.lat);
  const [west, east] = [Math.min(...lons), Math.max(...lons)];
  const [south, north] = [Math.min(...lats), Math.max(...lats)];
  const squeeze = Math.cos((((south + north) / 2) * Math.PI) / 180);
  const metres = 111320; // of one degree of latitude
  const scale = Math.min((frame.width - 80) / Math.max(1e-9, (east - west) * squeeze), (frame.height - 80) / Math.max(1e-9, north - south));
  const perMetre = scale / metres;
  const longest = Math.max(1e-6, ...arrows.map((a) => Math.hypot(a.dx, a.dy)));
  const factor = Math.max(1, Math.round(40 / (longest * perMetre)));
  const x = (lon: number): number => frame.width / 2 + (lon - (west + east) / 2) * squeeze * scale;
  const y = (lat: number): number => frame.height / 2 - (lat - (south + north) / 2) * scale;
  return (
    <figure>
      <svg class="chart" viewBox={`0 0 ${frame.width} ${frame.height}`} role="img" aria-label={title} dir="ltr">
        <defs>
          <marker id="arrow-tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="4" markerHeight="4" orient="auto">
            <path class="tip" d="M0 0L6 3L0 6z" />
          </marker>
        </defs>
        <rect class="ground" x={0.5} y={0.5} width={frame.width - 1} height={frame.height - 1} />
        {arrows.map((a) => {
          const [dx, dy] = [a.dx * perMetre * factor, -a.dy * perMetre * factor];
          return <line class={a.q < 0.5 ? "arrow poor" : "arrow"} x1={x(a.lon)} y1={y(a.lat)} x2={x(a.lon) + dx} y2={y(a.lat) + dy} marker-end="url(#arrow-tip)" />;
        })}
      </svg>
      <figcaption>{t("arrowCaption", number(factor), number(longest))}</figcaption>
    </figure>
  );
}
