// SPDX-License-Identifier: Apache-2.0
// The few calls the page makes. All addresses are relative to the page, so it works through a forwarded port and never
// leaves the server it came from, whatever name the server uses for itself in its links.
export interface Link {
  rel: string;
  title: string;
  href: string;
  type: string;
}

export interface Layer {
  id: "pre" | "post" | "damage";
  available: boolean;
  reason?: string;
  date?: string;
}

export interface Assessment {
  id: string;
  title: string;
  collection: string;
  buildings: number;
  bbox: [number, number, number, number];
  revision: string;
  version?: string;
  layers: Layer[];
  links: Link[];
}

export interface TileJson {
  minzoom: number;
  maxzoom: number;
  bounds: [number, number, number, number];
}

export type Properties = Record<string, string | number | null>;

export interface Page {
  features: { id: number; properties: Properties }[];
  numberMatched: number;
  links: Link[];
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const reply = await fetch(path, { headers: { Accept: "application/geo+json, application/json" }, signal: signal ?? null });
  const body: unknown = await reply.json();
  if (!reply.ok) throw new Error((body as { detail?: string }).detail ?? reply.statusText);
  return body as T;
}

export const assessments = async (): Promise<Assessment[]> =>
  (await get<{ assessments: Assessment[] }>("./assessments")).assessments;

export const tileJson = (a: Assessment, layer: string): Promise<TileJson> =>
  get(`./tiles/${a.id}/${layer}/tilejson.json`);

/** One page of buildings; `query` is what stands after the question mark. */
export const items = (a: Assessment, query: string, signal?: AbortSignal): Promise<Page> =>
  get(`./collections/${a.collection}/items?${query}`, signal);

/** The query of the next page, or null on the last. */
export function next(page: Page): string | null {
  const link = page.links.find((l) => l.rel === "next");
  return link ? new URL(link.href).search.slice(1) : null;
}

export async function classes(a: Assessment): Promise<string[]> {
  const doc = await get<{ properties: Record<string, { enum?: string[] }> }>(`./collections/${a.collection}/queryables`);
  return doc.properties["dmg_class"]?.enum ?? [];
}

export async function count(a: Assessment, property: "dmg_class" | "status", value: string): Promise<number> {
  return (await items(a, `limit=1&${property}=${encodeURIComponent(value)}`)).numberMatched;
}

/** Path of one of the server's links, relative to the page. */
export const local = (link: Link): string => "." + new URL(link.href).pathname.replace(/^.*(?=\/assessments\/)/, "");
