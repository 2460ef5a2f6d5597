// The server, asked with the key of this tab. Paths are relative, so that the page works behind a prefix.

import { eventData } from "./events.js";

const KEY = "outrider-api-key";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function storedKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function storeKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export async function getJson(path, signal) {
  return (await ask(path, { signal })).json();
}

/** Yield the chunks of a streamed answer; ApiError where the server refuses, or fails in mid-stream. */
export async function* streamed(path, body, signal) {
  const headers = { "content-type": "application/json" };
  const response = await ask(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(response.status, chunk.error.message);
    yield chunk;
  }
  throw new ApiError(response.status, "the answer broke off");
}

async function ask(path, { headers = {}, ...options }) {
  const key = storedKey();
  const authorization = key ? { authorization: `Bearer ${key}` } : {};
  const own = { headers: { ...headers, ...authorization }, credentials: "omit", cache: "no-store" };
  const response = await fetch(path, { ...options, ...own });
  if (!response.ok) throw new ApiError(response.status, await reason(response));
  return response;
}

async function reason(response) {
  let told;
  try {
    told = (await response.json()).error.message;
  } catch {
    told = `the server answered with status ${response.status}`;
  }
  const wait = response.headers.get("retry-after");
  return wait ? `${told}; try again in ${wait} s` : told;
}
