// One answer in numbers. Knows nothing of the page.

/** What has come of one request so far; times are readings of performance.now(), in milliseconds. */
export class Run {
  constructor({ path, request }, begun) {
    this.path = path;
    this.request = request;
    this.begun = begun;
    this.text = "";
    this.verifications = [];
    this.tokens = 0;
    this.draftTokens = 0;
    this.acceptedTokens = 0;
    this.finishReason = null;
  }

  /** Take one chunk's choice; returns its verification, or null where the chunk has no token. */
  take(choice, now) {
    this.finishReason = choice.finish_reason ?? this.finishReason;
    const pieces = choice.token_texts ?? [];
    for (const piece of pieces) this.text += piece.text;
    const sources = choice.token_sources ?? [];
    if (!sources.length) return null;
    this.firstTokenAt ??= now;
    this.firstTokens ??= sources.length;
    this.lastTokenAt = now;
    const guessed = sources.filter((source) => source !== "target");
    const verification = { sources, rejected: Math.max(0, (choice.num_draft_tokens ?? 0) - guessed.length) };
    this.tokens += sources.length;
    this.draftTokens += choice.num_draft_tokens ?? 0;
    this.acceptedTokens += guessed.length;
    this.verifications.push(verification);
    return verification;
  }

  get timeToFirstToken() {
    return this.firstTokenAt - this.begun;
  }

  /** Of all tokens but the first to come, which waited for the prompt. */
  get tokensPerSecond() {
    const seconds = (this.lastTokenAt - this.firstTokenAt) / 1000;
    return seconds > 0 ? (this.tokens - this.firstTokens) / seconds : NaN;
  }

  get tokensPerVerification() {
    return this.tokens / this.verifications.length;
  }

  get acceptance() {
    return this.acceptedTokens / this.draftTokens;
  }

  /** Requests with the same key must have the same text, whatever is drafted. */
  get key() {
    const { speculation, ...rest } = this.request;
    return JSON.stringify(rest);
  }
}
