// SPDX-License-Identifier: Apache-2.0
// A list of buildings that grows from the server's queue: nothing twice, nothing that is already decided here.
import { useRef, useState } from "preact/hooks";
import { queue, type Assessment, type Building } from "../api.js";
import { pendingOf } from "./labelstore.js";
import { person } from "./prefs.js";

const batch = 20;

export interface Growing {
  items: Building[];
  remaining: number | null;
  error: unknown;
  loaded: boolean;
  more: () => void;
}

export function useQueue(a: Assessment, mode: "both" | "validate"): Growing {
  const [items, setItems] = useState<Building[]>([]);
  const [remaining, setRemaining] = useState<number | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [loaded, setLoaded] = useState(false);
  const known = useRef(new Set<string>());
  const busy = useRef(false);
  const more = (): void => {
    if (busy.current) return;
    busy.current = true;
    // Labels still on their way are in the server's queue yet: ask for as many more.
    const ask = Math.min(200, batch + [...known.current].filter((id) => pendingOf(a.id, id)).length);
    queue(a.id, ask, mode, person.value)
      .then((q) => {
        const fresh = q.items.filter((b) => !known.current.has(b.bldg_id) && !pendingOf(a.id, b.bldg_id));
        fresh.forEach((b) => known.current.add(b.bldg_id));
        setRemaining(q.remaining);
        // What is in the list to teach may have been drawn for the blind sample since: then it is judged for that.
        const drawn = new Map(q.items.filter((b) => b.draw && !fresh.includes(b)).map((b) => [b.bldg_id, b]));
        if (fresh.length || drawn.size) setItems((old) => [...old.map((b) => (b.draw ? b : (drawn.get(b.bldg_id) ?? b))), ...fresh]);
        setError(null);
      }, setError)
      .finally(() => {
        busy.current = false;
        setLoaded(true);
      });
  };
  return { items, remaining, error, loaded, more };
}
