"""An endpoint in a process of its own that answers completions with as many tokens as are asked for, one by one."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN_S = 0.01


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        os.write(1, f"{json.dumps(body)}\n".encode())  # in one go: print writes the end of a line by itself
        if body["model"] != "m":
            self.send_error(404, "no such model")
            return
        self.send_response(200)
        self.end_headers()
        for _ in range(body["max_tokens"]):
            time.sleep(TOKEN_S)
            self.wfile.write(b'data: {"choices": [{"text": "a"}]}\n\n')
        self.wfile.write(
            f'data: {{"choices": [], "usage": {{"completion_tokens": {body["max_tokens"]}}}}}\n\n'.encode()
        )
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
