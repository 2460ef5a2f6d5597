"""What the network policies let out: names can be looked up wherever a cluster's DNS listens."""

from tests.helm.chart import any_helm, needs_helm, of_kind

pytestmark = needs_helm


def test_names_can_be_looked_up():
    """A policy is compared with the port of the pod behind a Service: 53, and 5353 on OpenShift."""
    closed = {"networkPolicy": {"internetEgress": False}}
    egress = of_kind(any_helm().objects(closed), "NetworkPolicy", "out-outrider")["spec"]["egress"]
    open_to_all = {(p["protocol"], p["port"]) for rule in egress if "to" not in rule for p in rule["ports"]}
    assert open_to_all == {(protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)}
