import asyncio
from collections.abc import Callable

import pytest

from cluster.actors import membership
from cluster.actors.membership import Membership
from cluster.actors.roster_state import Member, Revision, Role, RosterState, RosterView

ME = Member(Role.TARGET, "10.0.0.9:1", 9)
PEER = Member(Role.DRAFTER, "10.0.0.1:1", 1)


class FakeRoster:
    """The real state machine in this process, with a switch that kills it."""

    def __init__(self, incarnation: int, clock: Callable[[], float]) -> None:
        self.state = RosterState(incarnation, 10.0, clock)
        self.dead = False

    async def sync(self, member: Member | None, seen: Revision | None, wait_s: float) -> RosterView:
        await asyncio.sleep(0.001)
        if self.dead:
            raise ConnectionError("the actor died")
        if member is not None:
            self.state.renew(member)
        return self.state.view()

    async def leave(self, member: Member) -> None:
        if self.dead:
            raise ConnectionError("the actor died")
        self.state.leave(member)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.finds = 0
        self.seen: list[list[str]] = []
        self.roster = FakeRoster(1, self.clock)

    def clock(self) -> float:
        return self.now

    async def find(self) -> FakeRoster:
        self.finds += 1
        if self.roster.dead:
            raise ValueError("no such actor")
        return self.roster

    async def settle(self) -> None:
        await asyncio.sleep(0.05)


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(membership, "RENEW_S", 0.01)
    return World()


async def test_a_member_is_listed_sees_others_and_leaves(world: World):
    mine = Membership(world.find, ME, {Role.DRAFTER: world.seen.append})
    await mine.start()
    await world.settle()
    assert world.seen == []
    world.roster.state.renew(PEER)
    await world.settle()
    assert world.seen == [[PEER.address]]
    assert ME in world.roster.state.view().members
    await mine.stop()
    assert ME not in world.roster.state.view().members
    assert world.finds == 1


async def test_links_stay_up_over_a_new_roster_until_it_is_settled(world: World):
    world.now = 100.0
    world.roster.state.renew(PEER)
    mine = Membership(world.find, ME, {Role.DRAFTER: world.seen.append})
    await mine.start()
    await world.settle()
    world.roster.dead = True
    await world.settle()
    world.roster = FakeRoster(2, world.clock)
    await world.settle()
    assert ME in world.roster.state.view().members
    assert world.seen == [[PEER.address]]

    other = Member(Role.DRAFTER, "10.0.0.1:2", 1)
    world.roster.state.renew(other)
    await world.settle()
    assert world.seen[-1] == [PEER.address, other.address]

    world.now += 9.0
    world.roster.state.renew(other)
    world.now += 1.0
    await world.settle()
    assert world.seen[-1] == [other.address]
    await mine.stop()


async def test_stopping_without_a_roster_is_quiet(world: World):
    world.roster.dead = True
    mine = Membership(world.find, ME, {})
    await mine.start()
    await world.settle()
    assert world.finds > 1
    await mine.stop()


async def test_each_renewal_tells_how_long_the_process_waits(world: World):
    waits = iter([0.1, 0.2])
    mine = Membership(world.find, ME, {}, lambda: next(waits, 0.3))
    await mine.start()
    await world.settle()
    assert [member.bubble for member in world.roster.state.view().members] == [0.3]
    assert [member.address for member in mine.members] == [ME.address]
    await mine.stop()
