// SPDX-License-Identifier: Apache-2.0
// One way to call the server. Addresses are relative to the page, so it works through a forwarded port or below a prefix and
// never leaves the server it came from. Errors are RFC 9457 documents whose `detail` is fit to show.
import { signal } from "@preact/signals";

/** Whether the last call reached the server. */
export const online = signal(true);

export class ApiError extends Error {
  constructor(
    readonly status: number, // 0: the server was not reached
    message: string,
    readonly etag: string | null = null,
  ) {
    super(message);
  }
}

export interface Reply<T> {
  body: T;
  headers: Headers;
  status: number;
}

export async function call<T>(method: string, path: string, options: { json?: unknown; body?: BodyInit; headers?: Record<string, string>; signal?: AbortSignal | undefined } = {}): Promise<Reply<T>> {
  const headers: Record<string, string> = { Accept: "application/geo+json, application/json", ...options.headers };
  let body = options.body ?? null;
  if (options.json !== undefined) {
    headers["Content-Type"] ??= "application/json";
    body = JSON.stringify(options.json);
  }
  let reply: Response;
  try {
    reply = await fetch(path, { method, headers, body, signal: options.signal ?? null, cache: "no-cache", ...(method === "GET" ? {} : { priority: "high" }) });
  } catch (e) {
    if (options.signal?.aborted) throw e;
    online.value = false;
    throw new ApiError(0, e instanceof Error ? e.message : String(e));
  }
  online.value = true;
  const text = await reply.text();
  const isJson = /json/.test(reply.headers.get("Content-Type") ?? "");
  const parsed: unknown = text && isJson ? JSON.parse(text) : null;
  if (!reply.ok) {
    const detail = (parsed as { detail?: string } | null)?.detail;
    throw new ApiError(reply.status, detail ?? `${reply.status} ${reply.statusText}`, reply.headers.get("ETag"));
  }
  return { body: parsed as T, headers: reply.headers, status: reply.status };
}

export const get = async <T,>(path: string, abort?: AbortSignal): Promise<T> => (await call<T>("GET", path, { signal: abort })).body;
