"""What `helm test` runs: the service lists a model, answers a chat, and answers it the same way again."""

import json
import os
import urllib.request

BASE = os.environ["BASE_URL"]
KEY = os.environ.get("API_KEY", "")


def call(path: str, body: object = None) -> dict:
    """Return the answer to a GET, or to a POST of ``body``."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {KEY}"} if KEY else {})
    request = urllib.request.Request(BASE + path, data, headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def chat() -> dict:
    """Return a short answer with a fixed seed."""
    message = {"role": "user", "content": "Count from one to ten."}
    return call("/v1/chat/completions", {"model": model, "messages": [message], "max_tokens": 32, "seed": 7})


model = call("/v1/models")["data"][0]["id"]
first, second = chat(), chat()
assert first["usage"]["completion_tokens"] > 0, first
assert first["choices"] == second["choices"], "the same seed must give the same text"
print(f"{model} answers: {first['choices'][0]['message']['content']!r}")
