// SPDX-License-Identifier: Apache-2.0
// What the assessment was made from, and how the import goes.
import { fileInfo, thumbnail, type Assessment, type RasterInfo } from "../api.js";
import { date, number, t, two, word } from "../lib/i18n.js";
import { LastJob } from "../lib/jobview.js";
import { lowBandwidth } from "../lib/prefs.js";
import { hrefOf } from "../lib/route.js";
import { Heading, useLoaded } from "../lib/ui.js";

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

export function Sources({ a }: { a: Assessment }) {
  const ready = a.state === "ready" || a.state === "predicted";
  return (
    <div class="page">
      <Heading>{t("step_sources")}</Heading>
      <p>
        {a.event?.date && `${word("event", a.event.type)}, ${date(a.event.date)}. `}
        {t("state")}: <strong id="state">{word("status", a.state ?? "")}</strong>
      </p>
      <LastJob process="import" />
      {ready && (
        <p>
          {t("importedCount", number(a.buildings), number(a.chips ?? 0))}{" "}
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
        </section>
      </div>
    </div>
  );
}
