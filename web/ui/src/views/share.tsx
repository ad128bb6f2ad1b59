// SPDX-License-Identifier: Apache-2.0
// Addresses for other programs, and the files. All under the address this page was opened with, which is the one that works
// for its reader.
import { useState } from "preact/hooks";
import { type Assessment } from "../api.js";
import { t, type Key } from "../lib/i18n.js";
import { hrefOf } from "../lib/route.js";
import { Heading } from "../lib/ui.js";
import { Downloads } from "../map/panel.js";

const layerName = (id: string): string => (id === "pre" ? t("imagesBefore") : id === "post" ? t("imagesAfter") : t(`theme_${id}` as Key));

function Address({ label, text, help }: { label: string; text: string; help?: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <div class="address">
      <label class="field wide">
        {label}
        <input readOnly dir="ltr" value={text} onFocus={(e) => e.currentTarget.select()} />
      </label>
      {navigator.clipboard && (
        <button type="button" onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))} aria-label={`${t("copy")}: ${label}`}>
          {t("copy")}
        </button>
      )}
      <span role="status">{copied && t("copied")}</span>
      {help && <p class="note">{help}</p>}
    </div>
  );
}

export function Share({ a }: { a: Assessment }) {
  const base = new URL("./", location.href).href.replace(/#.*$/, "");
  const images = a.layers.filter((l) => l.available);
  return (
    <div class="page">
      <Heading>{t("step_share")}</Heading>
      <section>
        <h2>{t("forPrograms")}</h2>
        {a.collection && <Address label={t("ogcFeatures")} text={base} help={t("ogcFeaturesHelp", a.collection)} />}
        <Address label={t("mapLink")} text={`${base}${hrefOf(a.id, "map")}`} help={t("mapLinkHelp")} />
        <h3>{t("xyz")}</h3>
        <p class="note">{t("xyzHelp")}</p>
        {images.map((l) => (
          <Address label={layerName(l.id)} text={`${base}tiles/${a.id}/${l.id}/{z}/{x}/{y}.png`} />
        ))}
      </section>
      <Downloads a={a} />
    </div>
  );
}
