// What the cluster does now, beside what it has done since its start.

import { make, show } from "./dom.js";
import { figures, mainWay, sinceStart } from "./rates.js";

const WAYS = {
  plain: ["plain", "No drafter is asked: that would not pay now."],
  in_turn: ["in turn", "Each step waits for the drafts of its sequences."],
  overlapped: ["overlapped", "No step waits; drafts that come late serve as far as they fit."],
  run_ahead: ["run-ahead", "Drafters prepare for the likely verdicts while the target decides."],
  two_groups: ["two groups", "One half is verified while drafts are made for the other."],
};
const TIMES = [
  ["busy", "model steps"],
  ["held", "held back for drafts"],
  ["other", "between steps"],
  ["idle", "idle"],
];

/** Draw what happened in the `past` seconds, null where there are none yet, and since the start. */
export function drawFigures(host, past, cluster) {
  const now = past ? figures(past) : {};
  const total = sinceStart(cluster.targets);
  const start = figures(total);
  host.replaceChildren(
    table([
      ["Tokens generated", show.count(past?.generated_tokens), show.count(total.generated_tokens)],
      ["Tokens per verification", show.ratio(now.tokensPerVerification), show.ratio(start.tokensPerVerification)],
      ["Draft tokens accepted", show.share(now.acceptance), show.share(start.acceptance)],
    ]),
    ...schedulerParts(past, cluster),
    ...timeParts(past),
  );
}

function table(rows) {
  const head = ["", "last 10 s", "since start"].map((text) => make("th", { scope: "col", class: "number", text }));
  const body = rows.map(([name, ...values]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", text: name }),
      ...values.map((text) => make("td", { class: "number", text })),
    ),
  );
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

function schedulerParts(past, cluster) {
  const main = past && mainWay(past);
  const [name, why] = main ? (WAYS[main.way] ?? [main.way, ""]) : ["at rest", "Nothing was decided in the last 10 s."];
  const share = main ? `, ${show.share(main.share)} of the steps` : "";
  const expected = cluster.targets.map((target) => target.expected_tokens_per_second);
  const plain = expected.reduce((sum, value) => sum + value.plain, 0);
  const drafted = expected.reduce((sum, value) => sum + value.drafted, 0);
  const promise =
    main && plain > 0 && drafted > 0
      ? ` It expects ${show.rate(drafted)} tokens per second with drafters and ${show.rate(plain)} without.`
      : "";
  return [
    make("h3", { text: "How the scheduler speculates" }),
    make("p", { id: "way" }, make("strong", { text: name }), share),
    make("p", { class: "hint", text: why + promise }),
  ];
}

function timeParts(past) {
  const bar = make("div", { class: "time", "aria-hidden": "true" });
  const list = make("ul", { class: "times" });
  for (const [name, words] of TIMES) {
    const share = past ? past[name] / past.seconds : NaN;
    const part = make("i", { class: name });
    part.style.flexGrow = String(Number.isFinite(share) ? share : 0);
    bar.append(part);
    const colour = make("i", { class: name, "aria-hidden": "true" });
    list.append(make("li", {}, colour, make("span", { text: words }), make("b", { text: show.share(share) })));
  }
  return [make("h3", { text: "Where the target's time goes" }), bar, list];
}
