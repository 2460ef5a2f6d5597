// The form: from what is typed to a request, and from the stream to the page.

import { ApiError, streamed } from "./api.js";
import { AnswerView } from "./answer.js";
import { byId, make, plural, show } from "./dom.js";
import { Run } from "./run.js";
import { RunTable } from "./runs.js";

const EXAMPLES = {
  Explain: { prompt: "Why is the sky blue?", temperature: 0.7 },
  List: { prompt: "List the planets of the solar system, with one sentence about each.", temperature: 0.7 },
  Repeat: {
    prompt: "Repeat this text word for word, three times:\nThe small rider guesses the road ahead; the large one decides.",
    temperature: 0,
  },
};

export class Playground {
  /** `model` returns the name to ask for; `onDenied` is called where a key is missing or wrong. */
  constructor(model, onDenied) {
    this.model = model;
    this.onDenied = onDenied;
    this.view = new AnswerView();
    this.table = new RunTable();
    this.abort = null;
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("stop").addEventListener("click", () => this.abort?.abort());
    byId("speculation").addEventListener("change", () => (byId("drafter").disabled = !byId("speculation").checked));
    document.addEventListener("keydown", (event) => this.key(event));
    byId("prompt").value = EXAMPLES.Explain.prompt;
    byId("examples").append(...Object.entries(EXAMPLES).map(([name, fields]) => example(name, fields)));
  }

  key(event) {
    if (event.key === "Escape") this.abort?.abort();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !this.abort) byId("ask").requestSubmit();
  }

  async send() {
    if (this.abort) return;
    this.abort = new AbortController();
    this.busy(true);
    const run = new Run(asked(this.model()), performance.now());
    try {
      await this.follow(run, this.abort.signal);
    } catch (error) {
      run.stopped = true;
      if (error.name !== "AbortError") this.fail(error);
    } finally {
      this.abort = null;
      this.busy(false);
      this.end(run);
    }
  }

  async follow(run, signal) {
    this.view.begin();
    this.view.figures(run);
    for await (const chunk of streamed(run.path, run.request, signal)) {
      const choice = chunk.choices[0];
      if (!choice) continue;
      const verification = run.take(choice, performance.now());
      this.view.add(choice.token_texts ?? [], verification);
      this.view.figures(run);
    }
  }

  end(run) {
    this.view.end(run);
    if (run.tokens) this.table.add(run);
    const word = run.stopped ? "Stopped" : run.finishReason === "length" ? "Cut at the limit" : "Done";
    byId("state").textContent = `${word}: ${plural(run.tokens, "token")}, ${show.rate(run.tokensPerSecond)} per second`;
  }

  fail(error) {
    const known = error instanceof ApiError;
    byId("error").textContent = known ? error.message : "The server cannot be reached.";
    byId("error").hidden = false;
    if (error.status === 401) this.onDenied();
  }

  busy(on) {
    byId("send").disabled = on;
    byId("stop").disabled = !on;
    if (on) {
      byId("error").hidden = true;
      byId("state").textContent = "Answering";
    }
  }
}

function asked(model) {
  const prompt = byId("prompt").value;
  return byId("mode").value === "chat"
    ? { path: "v1/chat/completions", request: { messages: [{ role: "user", content: prompt }], ...common(model) } }
    : { path: "v1/completions", request: { prompt, ...common(model) } };
}

function common(model) {
  const seed = byId("seed").value;
  return {
    model,
    temperature: Number(byId("temperature").value),
    max_tokens: Number(byId("max-tokens").value),
    // Drawn here where none is given, so that the run can be told apart from its like.
    seed: seed === "" ? Math.floor(Math.random() * 2 ** 32) : Number(seed),
    stream: true,
    speculation: { enabled: byId("speculation").checked, drafter: byId("drafter").value, report_sources: true },
  };
}

function example(name, { prompt, temperature }) {
  const button = make("button", { type: "button", text: name });
  button.addEventListener("click", () => {
    byId("prompt").value = prompt;
    byId("temperature").value = temperature;
    byId("prompt").focus();
  });
  return button;
}
