// Drafters by name: under the picture, and as a choice of whose drafts a request may use.

import { byId, make } from "./dom.js";

/** Say who drafts now, and offer everybody whom a target knows. */
export function showDrafters(targets) {
  const connected = {};
  for (const target of targets) {
    for (const [name, count] of Object.entries(target.drafters)) {
      connected[name] = Math.max(connected[name] ?? 0, count);
    }
  }
  const present = Object.entries(connected).filter(([, count]) => count > 0);
  const told = present.map(([name, count]) => (count > 1 ? `${name} \u00d7 ${count}` : name));
  byId("drafters").textContent = told.length ? `Drafting: ${told.join(", ")}` : "";
  offer(Object.keys(connected));
}

/** Options are only added, so that a choice stays while its drafter is away; the server says when it is unknown. */
function offer(names) {
  const select = byId("drafter");
  const known = new Set([...select.options].map((option) => option.value));
  const fresh = names.filter((name) => !known.has(name));
  select.append(...fresh.map((name) => make("option", { value: name, text: name })));
}
