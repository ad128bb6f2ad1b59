// SPDX-License-Identifier: Apache-2.0
// The jobs of the open assessment as the server tells them over one event stream. EventSource reconnects by itself; after a
// gap the list is read anew, so a job that ended meanwhile is not shown as running.
import { signal } from "@preact/signals";
import { jobEvents, jobs as listJobs, type Job } from "../api.js";
import { online } from "./net.js";

export const jobs = signal<Job[]>([]);

export const isActive = (j: Job): boolean => j.status === "accepted" || j.status === "running";

/** The newest job of a process, or null. */
export const newest = (process: string): Job | null => jobs.value.find((j) => j.processID === process) ?? null;

let source: EventSource | null = null;
let following = "";

function put(job: Job): void {
  const rest = jobs.value.filter((j) => j.jobID !== job.jobID);
  jobs.value = [job, ...rest].sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : a.jobID < b.jobID ? 1 : -1));
}

async function read(id: string): Promise<void> {
  try {
    const all = await listJobs(id);
    if (following === id) all.forEach(put);
  } catch {
    // the stream's next connection reads again
  }
}

/** Follows the jobs of an assessment until another is followed; "" follows none. */
export function follow(id: string): void {
  if (following === id) return;
  source?.close();
  source = null;
  following = id;
  jobs.value = [];
  if (!id) return;
  source = new EventSource(jobEvents(id));
  source.addEventListener("open", () => {
    online.value = true;
    void read(id);
  });
  source.addEventListener("status", (event) => put(JSON.parse((event as MessageEvent<string>).data) as Job));
  source.addEventListener("error", () => (online.value = false));
}

/** A job this page has just started: shown before the stream mentions it. */
export const started = (job: Job): void => {
  if (job.jobID) put(job);
};
