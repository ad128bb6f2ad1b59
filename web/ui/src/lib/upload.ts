// SPDX-License-Identifier: Apache-2.0
// Uploads in parts that go on where they stopped: after a lost line by themselves, after a reload when the same file is given
// again (same name, size and date of change; anything else starts anew, so two files are never mixed).
import { ApiError, uploadPart, uploadStart, uploadState, type Upload } from "../api.js";

const keyOf = (f: File): string => `aftermap.upload/${f.name}/${f.size}/${f.lastModified}`;

const wait = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(new DOMException("", "AbortError"))), { once: true });
  });

async function open(file: File): Promise<Upload> {
  const known = localStorage.getItem(keyOf(file));
  if (known) {
    try {
      const u = await uploadState(known);
      if (u.bytes === file.size) return u;
    } catch (e) {
      if (!(e instanceof ApiError) || e.status !== 404) throw e;
    }
  }
  const u = await uploadStart(file.name, file.size);
  localStorage.setItem(keyOf(file), u.id);
  return u;
}

/** Sends the file and returns its ref; `told` hears the bytes that have arrived. */
export async function upload(file: File, told: (sent: number) => void, signal: AbortSignal): Promise<string> {
  let u = await open(file);
  let pause = 500;
  while (!u.complete) {
    told(u.offset);
    const part = file.slice(u.offset, Math.min(file.size, u.offset + u.chunk_bytes));
    try {
      await uploadPart(u.id, part, u.offset, file.size, signal);
      pause = 500;
    } catch (e) {
      if (signal.aborted) throw e;
      const passing = e instanceof ApiError && (e.status === 0 || e.status === 409 || e.status === 429 || e.status >= 500);
      if (!passing || e.status === 507) {
        localStorage.removeItem(keyOf(file));
        throw e;
      }
      await wait(pause, signal);
      pause = Math.min(10000, pause * 2);
    }
    try {
      u = await uploadState(u.id);
    } catch (e) {
      if (!(e instanceof ApiError) || e.status !== 0) throw e; // still unreachable: the next part finds out
    }
  }
  localStorage.removeItem(keyOf(file));
  if (u.problem) throw new ApiError(415, u.problem);
  return u.ref ?? u.id;
}
