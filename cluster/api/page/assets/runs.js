// The runs of this page beside each other: does speculation pay, and is the text the same?

import { byId, make, show } from "./dom.js";

const MAX_RUNS = 12;

export class RunTable {
  constructor() {
    this.runs = [];
  }

  add(run) {
    this.runs.unshift(run);
    this.runs.length = Math.min(this.runs.length, MAX_RUNS);
    byId("run-rows").replaceChildren(...this.runs.map((one) => row(one, this.reference(one))));
    byId("verdict").textContent = this.verdict(run);
    byId("runs").hidden = false;
  }

  /** The oldest run of the same request. */
  reference(run) {
    return this.runs.findLast((other) => other.key === run.key);
  }

  verdict(run) {
    const enabled = run.request.speculation.enabled;
    const other = this.runs.find((one) => one.key === run.key && one.request.speculation.enabled !== enabled);
    if (!other) return enabled ? "Now send it again without speculation." : "Now send it again with speculation.";
    const [fast, plain] = enabled ? [run, other] : [other, run];
    const times = fast.tokensPerSecond / plain.tokensPerSecond;
    if (!Number.isFinite(times)) return "";
    const { drafter } = fast.request.speculation;
    const how = drafter === "any" ? "With speculation" : `With drafts from ${source(drafter)}`;
    return `${how} ${show.ratio(times)} times as fast as without, ${sameness(run, other)}.`;
  }
}

/** Say whose drafts a request wanted. */
function source(drafter) {
  return { any: "any source", lookup: "look-ups" }[drafter] ?? drafter;
}

function row(run, reference) {
  const { enabled, drafter } = run.request.speculation;
  const cell = (text, kind = "") => make("td", { class: kind, text });
  return make(
    "tr",
    {},
    make("th", { scope: "row", text: enabled ? source(drafter) : "none" }),
    cell(show.rate(run.tokensPerSecond), "number"),
    cell(show.ratio(run.tokensPerVerification), "number"),
    cell(show.milliseconds(run.timeToFirstToken), "number wide"),
    cell(show.count(run.tokens), "number wide"),
    cell(compared(run, reference)),
  );
}

function compared(run, reference) {
  if (run === reference) return "first";
  const length = Math.min(run.text.length, reference.text.length);
  if (run.text.slice(0, length) !== reference.text.slice(0, length)) return "differs";
  return run.text.length === reference.text.length ? "same" : "same so far";
}

function sameness(run, other) {
  const told = compared(run, other);
  if (told === "differs") return "but the text differs: this target's arithmetic depends on the shape of a batch";
  return told === "same" ? "and the text is the same" : "and the text is the same as far as both go";
}
