"""Serve one tiny model on several simulated nodes; print as JSON where every process landed and what was answered."""

import json
import logging
import os
import shutil
import sys
import tempfile
import urllib.request

from cluster.private_ray import environment

LARGE, CHEAP, FRONT = "large-node", "cheap-node", "front-node"


def main(model: str, port: int) -> None:
    folder = tempfile.mkdtemp(prefix="outrider-", dir="/tmp")
    os.environ.update(environment() | {"RAY_TMPDIR": folder})
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    quiet = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
    head = nodes.add_node(num_cpus=1, labels={"outrider/role": "front"}, **quiet)
    ids = {
        head.node_id: FRONT,
        nodes.add_node(num_cpus=1, resources={"large": 2}, **quiet).node_id: LARGE,
        nodes.add_node(num_cpus=1, resources={"cheap": 2}, **quiet).node_id: CHEAP,
    }
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        from cluster.config_loader import parse_config
        from cluster.serving import deployed

        config = parse_config(
            {
                "target": {"model": model, "tp": 2, "resources": {"large": 1}, "runner": {"threads": 1}},
                "drafters": {"model": "ngram", "replicas": 2, "resources": {"cheap": 1}},
                "http": {"port": port, "labels": {"outrider/role": "front"}},
            }
        )
        with deployed(config, lambda line: print(line, file=sys.stderr)):
            answer = ask(port)
            landed = sorted((kind, ids[node]) for kind, node in where_actors_run())
        print(json.dumps({"landed": landed, "answer": answer}))
    finally:
        ray.shutdown()
        nodes.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def ask(port: int) -> dict:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "1 2 3 " * 10}], "max_tokens": 32}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


def where_actors_run() -> list[tuple[str, str]]:
    """Return (role, node id) of each living process of ours."""
    from ray._private.state import actors

    found = []
    for actor in actors().values():
        title = f"{actor['ActorClassName']}:{actor['Name']}"
        role = next((role for role in ("Target", "Drafter", "Ingress", "Rank") if role in title), None)
        if role and actor["State"] == "ALIVE":
            found.append((role, actor["Address"]["NodeID"]))
    return found


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
