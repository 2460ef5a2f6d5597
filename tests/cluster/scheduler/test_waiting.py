"""The queue by itself: nothing starves, equal tenants get equal service, and a flood is its own problem."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.waiting import MAX_IDLE_TENANTS, OUTPUT_CHARGE, PROMPT_CHARGE, WaitingRequests
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams

STEP_S = 3.0
MAX_PROMPT, MAX_OUTPUT, MOST_URGENT = 6, 5, -2
TENANTS = "abc"


def spread(places: int) -> float:
    """How far apart the counters of tenants that wait may get: one admission, and all that runs by then."""
    return PROMPT_CHARGE * MAX_PROMPT + OUTPUT_CHARGE * places * MAX_OUTPUT


@dataclass
class Server:
    """Places that each emit a token of their request per second; a second is a tick."""

    places: int
    queue: WaitingRequests = field(default_factory=lambda: WaitingRequests(STEP_S))
    now: int = 0
    running: list[ActiveRequest] = field(default_factory=list)
    arrived: dict[ActiveRequest, int] = field(default_factory=dict)
    admitted: list[ActiveRequest] = field(default_factory=list)
    served: Counter = field(default_factory=Counter)
    """What each tenant got, in the queue's currency."""
    left: dict[ActiveRequest, int] = field(default_factory=dict)
    ids: itertools.count = field(default_factory=itertools.count)

    def add(self, tenant: str, priority: int = 0, prompt: int = 1, output: int = 1, attempt: int = 0) -> ActiveRequest:
        number = next(self.ids)
        request = GenerationRequest(
            str(number),
            [0] * prompt,
            SamplingParams(),
            Stopping(output),
            tenant=tenant,
            priority=priority,
            attempt=attempt,
        )
        active = ActiveRequest.start(request, number)
        self.queue.add(active)
        self.arrived[active], self.left[active] = self.now, output
        return active

    def tick(self) -> None:
        while (active := self.queue.first(self.now)) and len(self.running) < self.places:
            self.queue.admit(active, len(active.sequence))
            self.served[active.request.tenant] += PROMPT_CHARGE * len(active.sequence)
            self.running.append(active)
            self.admitted.append(active)
        for active in list(self.running):
            self.queue.charge(active, 1)
            self.served[active.request.tenant] += OUTPUT_CHARGE
            self.left[active] -= 1
            if not self.left[active]:
                self.queue.leave(active)
                self.running.remove(active)
        self.now += 1

    def waiting(self, tenant: str) -> bool:
        return any(a.request.tenant == tenant for a in self.arrived if a not in set(self.admitted))


ARRIVAL = st.tuples(
    st.integers(0, 2),
    st.sampled_from(TENANTS),
    st.integers(MOST_URGENT, 2),
    st.integers(1, MAX_PROMPT),
    st.integers(1, MAX_OUTPUT),
)
"""Seconds since the one before, tenant, priority, prompt tokens, output tokens."""
ARRIVALS = st.lists(ARRIVAL, max_size=40)


def serve(server: Server, arrivals) -> None:
    """Let requests arrive as listed, then serve until nobody waits."""
    for gap, *request in arrivals:
        for _ in range(gap):
            server.tick()
        server.add(*request)
    while server.running or len(server.queue):
        before = server.now, len(server.admitted), sum(server.left.values())
        server.tick()
        assert before[2] > sum(server.left.values()), "somebody waits and nobody is served"


@given(ARRIVALS, st.integers(1, 4))
def test_a_request_is_overtaken_only_by_its_tenants_requests_of_a_limited_time(arrivals, places):
    server = Server(places)
    serve(server, arrivals)
    assert sorted(a.sequence.seq_id for a in server.admitted) == list(range(len(arrivals)))
    for passes, passed in itertools.combinations(server.admitted, 2):
        if passes.request.tenant == passed.request.tenant and passes.sequence.seq_id > passed.sequence.seq_id:
            steps = passed.request.priority - passes.request.priority
            assert steps > 0
            assert server.arrived[passes] - server.arrived[passed] <= steps * STEP_S


def test_a_request_that_lost_its_target_comes_before_all_that_never_ran():
    server = Server(places=1)
    for tenant in "aab":
        server.add(tenant, priority=-5)
    resumed = [server.add("c", attempt=1), server.add("c", attempt=1)]
    leaving = server.add("c", attempt=2)
    server.tick()
    server.queue.leave(leaving)
    while server.running or len(server.queue):
        server.tick()
    assert server.admitted[:2] == resumed
    assert len(server.admitted) == 5


def test_a_steady_stream_of_urgent_requests_cannot_starve_one_that_can_wait():
    server = Server(places=1)
    patient = server.add("a", priority=4)
    for _ in range(20):
        server.add("a", priority=-1)
        server.tick()
    assert server.admitted.index(patient) == 5 * STEP_S


@given(ARRIVALS, st.integers(1, 3), st.lists(st.integers(5, 20), min_size=3, max_size=3))
def test_who_waits_gets_as_much_as_anybody_else_up_to_what_runs_at_once(arrivals, places, floods):
    """Twice that where earlier requests have left their counters apart."""
    server = Server(places)
    serve(server, arrivals)
    bound = 2 * spread(places) if arrivals else spread(places)
    for tenant, count in zip(TENANTS, floods, strict=True):
        for _ in range(count):
            server.add(tenant, prompt=MAX_PROMPT, output=MAX_OUTPUT)
    before = Counter(server.served)
    while all(server.waiting(tenant) for tenant in TENANTS):
        server.tick()
        got = [server.served[tenant] - before[tenant] for tenant in TENANTS]
        assert max(got) - min(got) <= bound


@settings(max_examples=50)
@given(ARRIVALS, st.integers(1, 3), st.integers(20, 60))
def test_a_tenant_that_never_stops_waiting_is_never_far_behind_one_that_comes_and_goes(arrivals, places, backlog):
    server = Server(places)
    for _ in range(backlog):
        server.add("steady", prompt=MAX_PROMPT, output=MAX_OUTPUT)
    server.tick()
    before = Counter(server.served)
    for gap, *request in arrivals:
        for _ in range(gap):
            server.tick()
        if not server.waiting("steady"):
            return
        server.add(*request)
        behind = max(server.served[t] - before[t] for t in TENANTS) - (server.served["steady"] - before["steady"])
        assert behind <= 3 * spread(places)


@given(ARRIVALS, st.integers(5, 60), st.integers(-1000, 0), st.integers(0, 40))
def test_a_lone_request_overtakes_another_tenants_flood_whatever_its_priorities(arrivals, flood, priority, seconds):
    server = Server(places=1)
    serve(server, arrivals)
    for _ in range(flood):
        server.add("flood", priority, MAX_PROMPT, MAX_OUTPUT)
    for _ in range(seconds):
        server.tick()
    lone = server.add("lone", priority=1000)
    before = len(server.admitted)
    while lone not in server.admitted:
        server.tick()
    assert len(server.admitted) <= before + 2


def test_an_idle_target_may_be_used_up_without_a_debt():
    """Who had it alone for long is not punished when another one comes."""
    server = Server(places=1)
    serve(server, [(1, "a", 0, MAX_PROMPT, MAX_OUTPUT)] * 50)
    for tenant in "ab" * 10:
        server.add(tenant, output=MAX_OUTPUT)
    for _ in range(4 * MAX_OUTPUT):
        server.tick()
    assert Counter(a.request.tenant for a in server.admitted[50:]) == {"a": 2, "b": 2}


@given(ARRIVALS, st.integers(1, 3))
def test_the_same_arrivals_are_served_in_the_same_order(arrivals, places):
    first, second = Server(places), Server(places)
    serve(first, arrivals)
    serve(second, arrivals)
    assert [a.sequence.seq_id for a in first.admitted] == [a.sequence.seq_id for a in second.admitted]


@given(st.lists(st.integers(0, 3), max_size=20))
def test_without_tenants_and_priorities_it_is_a_plain_queue(gaps):
    server = Server(places=1)
    serve(server, [(gap, "", 0, 1, 2) for gap in gaps])
    assert [a.sequence.seq_id for a in server.admitted] == list(range(len(gaps)))


@given(
    st.lists(st.tuples(st.sampled_from(TENANTS), st.integers(-1000, 1000)), min_size=1, max_size=8),
    st.lists(st.sampled_from(TENANTS), max_size=20),
)
def test_the_most_urgent_is_the_last_to_be_preempted_and_the_first_to_come_back(requests, emitted):
    server = Server(places=len(requests))
    running = [server.add(tenant, priority) for tenant, priority in requests]
    urgent = min(running, key=lambda a: (a.request.priority, a.sequence.seq_id))
    for _ in running:
        server.queue.admit(server.queue.first(0.0), 1)
    charged = Counter({tenant: 0 for tenant, _ in requests}) + Counter(tenant for tenant, _ in requests)
    for tenant in emitted:
        if owned := [a for a in running if a.request.tenant == tenant]:
            server.queue.charge(owned[0], 1)
            charged[tenant] += OUTPUT_CHARGE
    while running:
        victim = server.queue.victim(running)
        others = {a.request.tenant for a in running if a is not urgent} or {urgent.request.tenant}
        assert charged[victim.request.tenant] == max(charged[tenant] for tenant in others)
        server.queue.put_back(victim)
        running.remove(victim)
    assert victim is urgent
    newcomer = server.add("d", -1000)
    assert server.queue.first(0.0) is urgent
    for _ in requests:
        server.queue.admit(server.queue.first(0.0), 1)
    assert server.queue.first(0.0) is newcomer


@given(ARRIVALS, st.data())
def test_who_leaves_is_forgotten_wherever_it_was(arrivals, data):
    server = Server(places=2)
    for gap, *request in arrivals:
        for _ in range(gap):
            server.tick()
        server.add(*request)
    preempted = list(server.running)
    for active in preempted:
        server.queue.put_back(active)
    waiting = [*preempted, *(a for a in server.arrived if a not in server.admitted)]
    assert len(server.queue) == len(waiting)
    for active in data.draw(st.permutations(waiting)):
        server.queue.leave(active)
    assert len(server.queue) == 0
    assert server.queue.first(1000.0) is None


def test_names_of_tenants_do_not_pile_up():
    server = Server(places=1)
    for i in range(MAX_IDLE_TENANTS + 50):
        server.add(str(i))
        server.tick()
    assert len(server.queue._idle) == MAX_IDLE_TENANTS
    assert not server.queue._tenants
