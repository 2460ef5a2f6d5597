// The answer as it grows: each token in the colour of its source, each verification as a column.

import { byId, make, plural, show } from "./dom.js";

const NAMES = { drafter: "drafted", lookup: "looked up", target: "the target's own" };

export class AnswerView {
  constructor() {
    this.answer = byId("answer");
    this.strip = byId("strip");
    this.last = null;
  }

  begin() {
    this.answer.replaceChildren();
    this.strip.replaceChildren();
    this.last = null;
    this.answer.setAttribute("aria-busy", "true"); // read out when it is whole, not token by token
  }

  /** Show what a chunk brought; text of one token stays together even where it came in parts. */
  add(pieces, verification) {
    for (const piece of pieces) {
      if (this.last?.index === piece.index) {
        this.last.node.textContent += piece.text;
        continue;
      }
      const node = make("span", { class: `token ${known(piece.source)}`, text: piece.text });
      this.answer.append(node);
      this.last = { index: piece.index, node };
    }
    if (verification) this.addColumn(verification);
  }

  addColumn({ sources, rejected }) {
    const cells = sources.map((source) => make("i", { class: known(source) }));
    for (let k = 0; k < rejected; k++) cells.push(make("i", { class: "rejected" }));
    this.strip.append(make("span", {}, ...cells));
    while (this.strip.scrollWidth > this.strip.clientWidth) this.strip.firstElementChild.remove();
  }

  figures(run) {
    byId("speed").textContent = show.rate(run.tokensPerSecond);
    byId("per-verification").textContent = show.ratio(run.tokensPerVerification);
    byId("accepted").textContent = show.share(run.acceptance);
    byId("first-token").textContent = show.milliseconds(run.timeToFirstToken);
    byId("tokens").textContent = show.count(run.tokens);
  }

  end(run) {
    this.answer.removeAttribute("aria-busy");
    this.strip.setAttribute("aria-label", described(run));
  }
}

function known(source) {
  return source in NAMES ? source : "target";
}

function described(run) {
  const counts = {};
  for (const { sources } of run.verifications) {
    for (const source of sources) counts[known(source)] = (counts[known(source)] ?? 0) + 1;
  }
  const parts = Object.entries(counts).map(([source, count]) => `${count} ${NAMES[source]}`);
  return `${plural(run.verifications.length, "verification")}, ${plural(run.tokens, "token")}: ${parts.join(", ")}`;
}
