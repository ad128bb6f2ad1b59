// SPDX-License-Identifier: Apache-2.0
// The list of assessments and how much room is left.
import { type Assessment, type Server } from "../api.js";
import { bytes, date, number, t, word } from "../lib/i18n.js";
import { hrefOf, type Step } from "../lib/route.js";
import { Heading, Table } from "../lib/ui.js";

/** Where the work on an assessment goes on. */
function nextStep(a: Assessment): Step {
  if (a.state === "new" || a.state === "importing" || a.state === "failed") return "sources";
  return a.state === "predicted" ? "map" : "label";
}

export function Start({ all }: { all: Server }) {
  return (
    <main id="main" class="view" tabIndex={-1}>
      <div class="page">
        <Heading>{t("assessments")}</Heading>
        <p>
          <a class="button primary" href="#/new">
            {t("newAssessment")}
          </a>
        </p>
        <Table
          id="assessments"
          caption={t("assessments")}
          empty={t("noAssessments")}
          rows={all.assessments}
          columns={[
            { name: t("name"), cell: (a) => <a href={hrefOf(a.id, nextStep(a))}>{a.title}</a> },
            { name: t("event"), cell: (a) => (a.event?.date ? `${word("event", a.event.type)}, ${date(a.event.date)}` : "–") },
            { name: t("state"), cell: (a) => word("status", a.state ?? "") },
            { name: t("buildings"), right: true, cell: (a) => number(a.buildings) },
            { name: t("labels"), right: true, cell: (a) => (a.n_labels ? number(a.n_labels.train + a.n_labels.validate) : "–") },
          ]}
        />
        <p class="note">
          {typeof all.disk_free_bytes === "number" && t("diskFree", bytes(all.disk_free_bytes))} {t("noNetwork")} {all.version && `aftermap ${all.version}`}
        </p>
      </div>
    </main>
  );
}
