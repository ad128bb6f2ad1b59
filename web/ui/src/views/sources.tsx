// SPDX-License-Identifier: Apache-2.0
// What the assessment was made from, and how the import goes.
import { useState } from "preact/hooks";
import { checks, fileInfo, setZones, thumbnail, type Assessment, type RasterInfo, type Zones } from "../api.js";
import { date, number, t, two, word } from "../lib/i18n.js";
import { LastJob } from "../lib/jobview.js";
import { lowBandwidth } from "../lib/prefs.js";
import { hrefOf } from "../lib/route.js";
import { Failure, Heading, useAction, useLoaded } from "../lib/ui.js";
import { ZonesField } from "./area.js";

function Image({ name }: { name: string }) {
  const { value, error } = useLoaded(() => fileInfo(name), [name]);
  const info = value?.kind === "raster" ? (value as RasterInfo) : null;
  return (
    <li class="chosen">
      {!error && <img src={thumbnail(name, lowBandwidth.value ? 96 : 192, "")} alt={t("thumbnailOf", name)} />}
      <div>
        <strong>
          <bdi>{name}</bdi>
        </strong>
        {info && (
          <p class="note">
            {info.gsd_m && t("metres", two(info.gsd_m))} · {t("bandsDepth", number(info.bands), number(info.bit_depth))} · <bdi>{info.crs}</bdi> · {info.date ? date(info.date) : t("unknownDate")}
          </p>
        )}
      </div>
    </li>
  );
}

/** The zones that totals are split by: they may come long after the images. */
function ZonesPart({ a, changed }: { a: Assessment; changed: () => void }) {
  const [draft, setDraft] = useState<Zones | null>(null);
  const { busy, error, run } = useAction();
  const set = (z: Zones | null): void =>
    run(async () => {
      await setZones(a, z);
      setDraft(null);
      changed();
    });
  return (
    <section id="zones-part" aria-labelledby="zones-title">
      <h2 id="zones-title">{t("zones")}</h2>
      <p class="note">{t("zonesAbout")}</p>
      {a.zones ? (
        <p>
          <bdi>{a.zones.ref}</bdi> ({[a.zones.id_field, a.zones.name_field].filter(Boolean).join(", ")}){" "}
          <button type="button" disabled={busy} onClick={() => set(null)}>
            {t("remove")}
          </button>
        </p>
      ) : (
        <>
          <ZonesField value={draft} change={setDraft} />
          {draft && (
            <p>
              <button type="button" class="primary" disabled={busy || !draft.id_field} onClick={() => set(draft)}>
                {t("save")}
              </button>
            </p>
          )}
        </>
      )}
      <Failure error={error} />
    </section>
  );
}

export function Sources({ a, changed }: { a: Assessment; changed: () => void }) {
  const ready = a.state === "ready" || a.state === "predicted";
  const kept = useLoaded(async () => (ready ? (await checks(a.id)).footprints.kept : null), [a.id, ready]).value;
  return (
    <div class="page">
      <Heading>{t("step_sources")}</Heading>
      <p>
        {a.event?.date && `${word("event", a.event.type)}, ${date(a.event.date)}. `}
        {t("named", t("state"), "")}<strong id="state">{word("status", a.state ?? "")}</strong>
      </p>
      <LastJob process="import" />
      {ready && (
        <p>
          {t("importedCount", number(a.buildings), kept === null ? "…" : number(kept))}{" "}
          <a class="button primary" href={hrefOf(a.id, "checks")}>
            {t("toChecks")}
          </a>
        </p>
      )}
      <div class="columns">
        <section>
          <h2>{t("imagesBefore")}</h2>
          <ul class="plain">{a.pre?.map((r) => <Image key={r} name={r} />)}</ul>
        </section>
        <section>
          <h2>{t("imagesAfter")}</h2>
          <ul class="plain">{a.post?.map((r) => <Image key={r} name={r} />)}</ul>
        </section>
        <section>
          <h2>{t("footprints")}</h2>
          <p>
            <bdi>{a.footprints}</bdi>
          </p>
          {a.aoi ? (
            <p class="note">
              {t("aoiLimited")}
            </p>
          ) : null}
        </section>
      </div>
      {ready && <ZonesPart a={a} changed={changed} />}
    </div>
  );
}
