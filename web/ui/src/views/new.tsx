// SPDX-License-Identifier: Apache-2.0
// A new assessment: what happened and when, images before and after, footprints; a sketch shows at once whether they lie on
// each other. Creating starts the import job and goes on to the view that follows it.
import { useRef, useState } from "preact/hooks";
import { ApiError, create, thumbnail, type NewAssessment as NewAssessmentBody, type RasterInfo, type VectorInfo, type Zones } from "../api.js";
import { number, percent, t, word } from "../lib/i18n.js";
import { started } from "../lib/jobs.js";
import { lowBandwidth } from "../lib/prefs.js";
import { go, hrefOf } from "../lib/route.js";
import { Failure, Heading, Notice, useAction } from "../lib/ui.js";
import { AreaField, areaOf, everywhere, isComplete, isProper, ZonesField, type Area, type Box } from "./area.js";
import { FilesField, type Info } from "./files.js";

const events = ["earthquake", "tornado", "hurricane", "flood", "wildfire", "volcano", "landslide", "explosion", "conflict", "other"];

const union = (boxes: Box[]): Box | null =>
  boxes.length === 0
    ? null
    : boxes.reduce((a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])]);

const area = (b: Box): number => Math.max(0, b[2] - b[0]) * Math.max(0, b[3] - b[1]);

function common(a: Box, b: Box): Box {
  return [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
}

/** The server names an assessment after its title; where that name is taken, a number goes behind it. */
async function createNamed(wanted: NewAssessmentBody): ReturnType<typeof create> {
  const slug = wanted.title.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 32) || "assessment";
  for (let n = 2; ; n++) {
    try {
      return await create(n === 2 ? wanted : { ...wanted, id: `${slug}-${n - 1}` });
    } catch (e) {
      if (!(e instanceof ApiError) || e.status !== 409 || n > 20) throw e;
    }
  }
}

interface Extent {
  letter: string;
  name: string;
  box: Box;
}

/**
 * The extents over each other, told apart by the kind of line and by letters, over a thumbnail of the image after. Where a
 * rectangle may be drawn, dragging draws it.
 */
function Sketch({ boxes, picture, draw }: { boxes: Extent[]; picture: { src: string; box: Box } | null; draw: ((b: Box) => void) | null }) {
  const from = useRef<[number, number] | null>(null);
  const all = union(boxes.map((b) => b.box));
  if (!all || boxes.length < 2) return null;
  const [w, h] = [560, 340];
  const squeeze = Math.cos((((all[1] + all[3]) / 2) * Math.PI) / 180);
  const scale = Math.min((w - 40) / Math.max(1e-9, (all[2] - all[0]) * squeeze), (h - 40) / Math.max(1e-9, all[3] - all[1]));
  const x = (lon: number): number => w / 2 + (lon - (all[0] + all[2]) / 2) * squeeze * scale;
  const y = (lat: number): number => h / 2 - (lat - (all[1] + all[3]) / 2) * scale;
  const rect = (box: Box) => ({ x: x(box[0]), y: y(box[3]), width: Math.max(1, x(box[2]) - x(box[0])), height: Math.max(1, y(box[1]) - y(box[3])) });
  const at = (e: { clientX: number; clientY: number; currentTarget: SVGSVGElement }): [number, number] => {
    const frame = e.currentTarget.getBoundingClientRect();
    const [px, py] = [((e.clientX - frame.left) * w) / frame.width, ((e.clientY - frame.top) * h) / frame.height];
    return [(px - w / 2) / (squeeze * scale) + (all[0] + all[2]) / 2, (h / 2 - py) / scale + (all[1] + all[3]) / 2];
  };
  const move = (e: { clientX: number; clientY: number; currentTarget: SVGSVGElement }): void => {
    if (!draw || !from.current) return;
    const [[a, b], [c, d]] = [from.current, at(e)];
    const box = [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)].map((v) => Number(v.toFixed(6))) as Box;
    if (isProper(box)) draw(box);
  };
  const dashes = ["", "8 4", "2 3", "12 3 2 3"];
  return (
    <figure>
      <svg
        class={draw ? "chart sketch drawing" : "chart sketch"}
        viewBox={`0 0 ${w} ${h}`}
        role="img"
        aria-label={t("sketch")}
        dir="ltr"
        onPointerDown={(e) => draw && ((from.current = at(e)), e.currentTarget.setPointerCapture(e.pointerId))}
        onPointerMove={move}
        onPointerUp={(e) => (move(e), (from.current = null))}
        onPointerCancel={() => (from.current = null)}
      >
        {picture && <image href={picture.src} {...rect(picture.box)} preserveAspectRatio="none" />}
        {boxes.map(({ letter, box }, i) => {
          const r = rect(box);
          // Each letter in a corner of its own: extents often begin at the same place.
          const [tx, ty] = [i % 2 ? r.x + r.width - 20 : r.x + 4, i < 2 ? r.y + 4 : r.y + r.height - 22];
          return (
            <g>
              <rect class="extent halo" {...r} />
              <rect class="extent" {...r} stroke-dasharray={dashes[i]} />
              <rect class="plate" x={tx} y={ty} width={16} height={18} />
              <text x={tx + 8} y={ty + 14} text-anchor="middle">
                {letter}
              </text>
            </g>
          );
        })}
      </svg>
      <figcaption>{boxes.map((b) => `${b.letter} ${b.name}`).join(" · ")}</figcaption>
    </figure>
  );
}

export function NewAssessment() {
  const [title, setTitle] = useState("");
  const [kind, setKind] = useState("earthquake");
  const [day, setDay] = useState("");
  const [pre, setPre] = useState<string[]>([]);
  const [post, setPost] = useState<string[]>([]);
  const [footprints, setFootprints] = useState<string[]>([]);
  const [layer, setLayer] = useState("");
  const [idField, setIdField] = useState("");
  const [cut, setCut] = useState(2);
  const [where, setWhere] = useState<Area>(everywhere);
  const [zones, setZones] = useState<Zones | null>(null);
  const [infos, setInfos] = useState<Record<string, Info | null>>({});
  const { busy, error, run } = useAction();

  const know = (ref: string, info: Info | null): void => setInfos((x) => ({ ...x, [ref]: info }));
  const told = (ref: string, info: Info | null): void => {
    know(ref, info);
    if (info?.kind === "vector") {
      setLayer(info.layers[0]?.name ?? "");
      setIdField(info.layers[0]?.suggested_id_field ?? "");
    }
  };
  const boxOf = (refs: string[]): Box | null => union(refs.map((r) => infos[r]?.bbox).filter((b): b is Box => !!b));
  const vector = footprints.map((r) => infos[r]).find((i): i is VectorInfo => i?.kind === "vector");
  const chosenLayer = vector?.layers.find((l) => l.name === layer);
  const [a, b, c] = [boxOf(pre), boxOf(post), boxOf(footprints)];
  const boxes = [
    { letter: "A", name: t("imagesBefore"), box: a },
    { letter: "B", name: t("imagesAfter"), box: b },
    { letter: "C", name: t("footprints"), box: c },
    { letter: "D", name: t("aoi"), box: where.kind === "file" ? boxOf([where.ref]) : where.kind === "box" && isProper(where.box) ? where.box : null },
  ].filter((x): x is Extent => x.box !== null);
  const under = !lowBandwidth.value && post[0] ? infos[post[0]] : null;
  const picture = under?.kind === "raster" && under.bbox && !under.problem ? { src: thumbnail(under.ref, 512, ""), box: under.bbox } : null;
  const both = a && b ? common(a, b) : null;
  const covered = both && c && area(c) > 0 ? area(common(both, c)) / area(c) : null;
  const problem = [...pre, ...post, ...footprints, ...(where.kind === "file" ? [where.ref] : [])].some((r) => infos[r]?.problem);
  const ready = title.trim() !== "" && pre.length > 0 && post.length > 0 && footprints.length === 1 && !problem && isComplete(where) && (!zones || zones.id_field !== "");
  const coarse = [...pre, ...post].map((r) => infos[r] as RasterInfo | undefined).some((i) => i?.gsd_m && i.gsd_m > 1);

  const submit = async (): Promise<void> => {
    const aoi = areaOf(where);
    const made = await createNamed({
      title: title.trim(),
      ...(day ? { event: { type: kind, date: day } } : {}),
      pre,
      post,
      footprints: footprints[0] ?? "",
      ...(layer ? { layer } : {}),
      ...(idField ? { id_field: idField } : {}),
      cut,
      ...(aoi ? { aoi } : {}),
      ...(zones ? { zones } : {}),
    });
    const job = (made as { job?: Parameters<typeof started>[0] }).job;
    go(hrefOf(made.id, "sources"));
    if (job) setTimeout(() => started(job));
  };

  return (
    <main id="main" class="view" tabIndex={-1}>
      <form class="page" onSubmit={(e) => (e.preventDefault(), run(submit))}>
        <Heading>{t("newAssessment")}</Heading>
        <fieldset class="inline">
          <legend>{t("whatHappened")}</legend>
          <label class="field wide">
            {t("name")}
            <input id="title" required maxLength={120} value={title} onInput={(e) => setTitle(e.currentTarget.value)} />
          </label>
          <label class="field">
            {t("eventType")}
            <select id="event-type" value={kind} onChange={(e) => setKind(e.currentTarget.value)}>
              {events.map((x) => (
                <option value={x}>{word("event", x)}</option>
              ))}
            </select>
          </label>
          <label class="field">
            {t("eventDate")}
            <input id="event-date" type="date" value={day} onInput={(e) => setDay(e.currentTarget.value)} />
          </label>
          <label class="field">
            {t("cut")}
            <select id="cut" value={cut} onChange={(e) => setCut(Number(e.currentTarget.value))}>
              <option value={2}>{t("cut2")}</option>
              <option value={1}>{t("cut1")}</option>
            </select>
          </label>
        </fieldset>
        <FilesField label={t("imagesBefore")} kind="raster" several refs={pre} change={setPre} told={told} />
        <FilesField label={t("imagesAfter")} kind="raster" several refs={post} change={setPost} told={told} />
        <FilesField label={t("footprints")} kind="vector" several={false} refs={footprints} change={setFootprints} told={told} />
        {vector && !vector.problem && (
          <fieldset class="inline">
            <legend>{t("footprintFile")}</legend>
            {vector.layers.length > 1 && (
              <label class="field">
                {t("layerOfFile")}
                <select value={layer} onChange={(e) => setLayer(e.currentTarget.value)}>
                  {vector.layers.map((l) => (
                    <option value={l.name}>{l.name}</option>
                  ))}
                </select>
              </label>
            )}
            <label class="field">
              {t("idField")}
              <select id="id-field" value={idField} onChange={(e) => setIdField(e.currentTarget.value)}>
                <option value="">{t("noIdField")}</option>
                {chosenLayer?.fields.map((f) => (
                  <option value={f.name}>{f.name}</option>
                ))}
              </select>
            </label>
            <p>{chosenLayer && t("footprintCount", number(chosenLayer.n))}</p>
          </fieldset>
        )}
        <AreaField value={where} change={setWhere} start={both ?? c} told={know} />
        <details class="optional">
          <summary>{t("zonesOptional")}</summary>
          <p class="note">{t("zonesAbout")}</p>
          <ZonesField value={zones} change={setZones} />
        </details>
        <Sketch boxes={boxes} picture={picture} draw={where.kind === "box" ? (box) => setWhere({ kind: "box", ref: "", box }) : null} />
        {both && area(both) === 0 && <Notice kind="fail">{t("noOverlap")}</Notice>}
        {covered !== null && <p>{t("coveredShare", percent(covered))}</p>}
        {coarse && <Notice kind="warn">{t("coarse")}</Notice>}
        <p>
          <button class="primary" id="create" disabled={!ready || busy}>
            {t("create")}
          </button>{" "}
          {!ready && <span class="note">{t("createNeeds")}</span>}
        </p>
        <Failure error={error} />
      </form>
    </main>
  );
}
