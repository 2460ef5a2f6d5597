from dataclasses import replace

from cluster.actors.roster_state import Member, Role, RosterState


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def drafter(port: int, incarnation: int = 1) -> Member:
    return Member(Role.DRAFTER, f"10.0.0.1:{port}", incarnation)


def make(ttl_s: float = 10.0) -> tuple[RosterState, Clock]:
    clock = Clock()
    return RosterState(7, ttl_s, clock), clock


def test_members_are_listed_by_role():
    state, _ = make()
    state.renew(drafter(2))
    state.renew(drafter(1))
    state.renew(Member(Role.TARGET, "10.0.0.2:1", 5))
    view = state.view()
    assert view.addresses(Role.DRAFTER) == ["10.0.0.1:1", "10.0.0.1:2"]
    assert view.addresses(Role.TARGET) == ["10.0.0.2:1"]


def test_a_lease_that_is_not_renewed_runs_out():
    state, clock = make(ttl_s=10)
    state.renew(drafter(1))
    state.renew(drafter(2))
    clock.now += 6
    state.renew(drafter(2))
    clock.now += 4
    assert state.view().addresses(Role.DRAFTER) == ["10.0.0.1:2"]
    clock.now += 6
    assert state.view().members == ()


def test_the_revision_changes_exactly_when_the_members_do():
    state, clock = make()
    seen = [state.revision]
    state.renew(drafter(1))
    seen.append(state.revision)
    state.renew(drafter(1))
    assert state.revision == seen[-1]
    state.renew(drafter(1, incarnation=2))
    seen.append(state.revision)
    state.renew(drafter(2))
    seen.append(state.revision)
    state.leave(drafter(2))
    seen.append(state.revision)
    clock.now += 11
    state.expire()
    seen.append(state.revision)
    assert len(set(seen)) == len(seen)
    assert {incarnation for incarnation, _ in seen} == {7}


def test_only_the_holder_of_an_address_can_leave_it():
    state, _ = make()
    state.renew(drafter(1, incarnation=1))
    state.renew(drafter(1, incarnation=2))
    state.leave(drafter(1, incarnation=1))
    assert state.view().members == (drafter(1, incarnation=2),)
    state.leave(drafter(1, incarnation=2))
    assert state.view().members == ()


def test_a_young_roster_is_unsettled_for_one_lease():
    state, clock = make(ttl_s=10)
    assert not state.view().settled
    clock.now += 9.9
    assert not state.view().settled
    clock.now += 0.1
    assert state.view().settled


def test_idle_time_counts_from_the_last_renewal():
    state, clock = make()
    clock.now += 5
    assert state.idle_s == 5
    state.renew(drafter(1))
    assert state.idle_s == 0


def test_how_long_a_target_waits_is_told_and_wakes_nobody():
    state, _ = make()
    target = Member(Role.TARGET, "10.0.0.2:1", 5)
    state.renew(target)
    before = state.revision
    state.renew(replace(target, bubble=0.4))
    assert state.revision == before
    assert [member.bubble for member in state.view().members] == [0.4]
