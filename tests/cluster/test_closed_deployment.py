"""``outrider serve`` with keys and certificates, as it is: what it listens on, who gets in, and what its logs hold."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from cluster.api.door.key_ring import key_line, new_key
from cluster.cli import app
from cluster.private_ray import descendants
from tests.cluster.served import ServedCommand, eventually
from tests.support.tiny_models import make_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROMPT = "violets that nobody else shall read of"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and the first as an IPv6 address, as the kernel writes them."""


@pytest.fixture(scope="module")
def key():
    return new_key()


@pytest.fixture(scope="module")
def served(tmp_path_factory, key):
    folder = tmp_path_factory.mktemp("closed")
    tiny = make_tiny(folder / "tiny", scale=4.0)
    assert CliRunner().invoke(app, ["certs", str(folder / "tls")]).exit_code == 0
    (folder / "keys").write_text(key_line("ann", key))
    tls = {"certificate": "{role}.crt", "key": "{role}.key", "authority": "ca.crt"}
    settings = {
        "tls": {name: str(folder / "tls" / path) for name, path in tls.items()},
        "http": {"api": {"api_keys_file": str(folder / "keys")}},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    command = ServedCommand(str(folder / "settings.json"), "--target", str(tiny), log=folder / "serve.log")
    try:
        command.wait_ready()
        yield command
    finally:
        if command.process.poll() is None:
            command.stop()
        command.kill()


def ask(served: ServedCommand, path: str, key: str = "", body: object = None) -> tuple[int, bytes]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def completion(served: ServedCommand, key: str) -> tuple[int, bytes]:
    return ask(served, "/v1/completions", key, {"model": "tiny", "prompt": PROMPT, "max_tokens": 40})


def listening(served: ServedCommand) -> dict[int, tuple[str, int]]:
    """Return address (as the kernel writes it) and port of each TCP socket that the command's processes listen on."""
    inodes: dict[str, int] = {}
    for pid in [served.process.pid, *descendants(served.process.pid)]:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            if link.is_symlink() and (found := re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))):
                inodes[found[1]] = pid
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                sockets[int(port, 16)] = (address, inodes[fields[9]])
    return sockets


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]


def test_a_key_opens_it_and_nothing_else_does(served, key):
    status, answer = completion(served, key)
    assert (status, json.loads(answer)["usage"]["completion_tokens"] > 0) == (200, True)
    for wrong in ("", "sk-wrong", key[:-1], key.upper()):
        status, answer = completion(served, wrong)
        assert status == 401
        assert key.encode() not in answer

    def drafted() -> bool:
        completion(served, key)
        lines = ask(served, "/metrics", key)[1].decode().splitlines()
        return any(re.match(r"outrider_draft_blocks_received_total\S* [1-9]", line) for line in lines)

    eventually(drafted)


def test_what_listens_beyond_loopback_is_ray_serves_and_asks_for_the_token(served):
    """Serve opens a port for each replica, on all addresses, and unpickles what comes: only the token guards it."""
    sockets = listening(served)
    assert len(sockets) > 6, "HTTP, gRPC, metrics and Ray's own"
    beyond = {port: pid for port, (address, pid) in sockets.items() if address not in LOOPBACK}
    assert len(set(beyond.values())) == len(beyond) <= 3
    for port, pid in beyond.items():
        assert "ray::ServeReplica:" in name_of(pid)
        for method in ("HandleRequest", "HandleRequestStreaming", "HandleRequestWithRejection"):
            assert refusal(port, f"/ray.serve.ASGIService/{method}") is grpc.StatusCode.UNAUTHENTICATED


def test_ray_lets_nobody_in_without_its_token(served):
    (gcs,) = [port for port, (_, pid) in listening(served).items() if "gcs_server" in name_of(pid).split(" ")[0]][:1]
    methods = ("NodeInfoGcsService/GetAllNodeInfo", "JobInfoGcsService/AddJob", "InternalKVGcsService/InternalKVPut")
    for method in methods:
        assert refusal(gcs, f"/ray.rpc.{method}") is grpc.StatusCode.UNAUTHENTICATED


def refusal(port: int, method: str) -> grpc.StatusCode:
    """Return with which status a call without any token fails."""
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(method)(b"", timeout=60)
    return error.value.code()


def test_no_log_holds_a_secret_or_a_prompt(served, key):
    completion(served, key)
    completion(served, "sk-wrong-but-somebodys")
    environment = Path(f"/proc/{served.process.pid}/task").glob("*/children")
    children = [pid for path in environment for pid in path.read_text().split()]
    tokens = {
        found[1].decode()
        for pid in children
        if (found := re.search(rb"RAY_AUTH_TOKEN=([0-9a-f]+)", Path(f"/proc/{pid}/environ").read_bytes()))
    }
    assert len(tokens) == 1, "the token that Ray asks for"
    found = re.search(r"logs are in (\S+)", served.log.read_text())
    assert found is not None
    logs = [path for path in Path(found[1]).resolve().parent.rglob("*") if path.is_file() and not path.is_socket()]
    assert len(logs) > 5
    secrets = {
        "the API key": key,
        "a wrong key": "sk-wrong-but-somebodys",
        "a prompt": PROMPT,
        "Ray's token": tokens.pop(),
    }
    for path in [served.log, *logs]:
        text = path.read_bytes()
        for what, secret in secrets.items():
            assert secret.encode() not in text, f"{what} is in {path}"
        assert b"PRIVATE KEY" not in text
