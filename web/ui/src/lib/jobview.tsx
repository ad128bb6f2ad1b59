// SPDX-License-Identifier: Apache-2.0
// A job as the user sees it: what it does, how far it is, how long still, and a way to stop it.
import { dismiss, type Job } from "../api.js";
import { duration, percent, t, word } from "./i18n.js";
import { isActive, jobs, newest } from "./jobs.js";
import { Notice, useAction, Failure } from "./ui.js";

export function JobLine({ job }: { job: Job }) {
  const { busy, error, run } = useAction();
  const name = word("process", job.processID);
  if (!isActive(job))
    return job.status === "failed" ? (
      <Notice kind="fail">
        {t("named", name, word("job", job.status))}. {job.message}
      </Notice>
    ) : (
      <p role="status" class="job">
        {t("named", name, word("job", job.status))}
      </p>
    );
  return (
    <div class="job">
      <p role="status">
        {t("named", name, word("job", job.status))}
        {/* whole tenths only, so that a screen reader is not talked over */}
        <span class="hidden"> {percent(Math.floor(job.progress / 10) / 10)}</span>
      </p>
      <div class="meter">
        <progress max={100} value={job.progress} aria-label={name} />
        <span class="count">{percent(job.progress / 100)}</span>
        <span class="eta">{job.eta_s !== null && job.eta_s !== undefined && t("remaining", duration(job.eta_s))}</span>
        <button type="button" disabled={busy} onClick={() => run(async () => void (await dismiss(job.jobID)))}>
          {t("stop")}
        </button>
      </div>
      <Failure error={error} />
    </div>
  );
}

/** The newest job of a process, if there was one. */
export function LastJob({ process }: { process: string }) {
  const job = newest(process);
  return job && <JobLine job={job} />;
}

export const busyWith = (process: string): boolean => jobs.value.some((j) => j.processID === process && isActive(j));
