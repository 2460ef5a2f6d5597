"""Where the roster lives: with the head, whatever else comes and goes."""

from ray._common.constants import HEAD_NODE_RESOURCE_NAME

from cluster.actors.roster import roster_options


def test_the_roster_is_with_the_head():
    """Ray puts an actor that asks for nothing on any machine, and its autoscaler gives up none on which one lives."""
    options = roster_options("a")
    assert options["resources"].keys() == {HEAD_NODE_RESOURCE_NAME}
    assert options["num_cpus"] == 0, "a head may offer none"
    assert roster_options("b")["name"] != options["name"]
