from workers.drafting.fan_out import FanOut, Verdict

RANKED = [[10, 11, 12, 13], [20, 21, 22, 23], [30, 31, 32, 33]]
DRAFT = [10, 20]


def verdicts(fan_out, decided, times=400):
    for _ in range(times):
        fan_out.note(DRAFT, RANKED, decided)
    return fan_out


def test_before_anything_is_known_single_corrections_come_before_second_guesses():
    first = FanOut().likeliest(4, 6)
    assert {(v.accepted, v.rank) for v in first[:5]} == {(0, 1), (1, 1), (2, 1), (3, 1), (4, 0)}
    assert len(FanOut().likeliest(4, 100)) == 4 * 3 + 3


def test_a_drafter_that_is_always_right_prepares_for_that_alone():
    assert verdicts(FanOut(), [10, 20, 30]).likeliest(2, 1) == [Verdict(2, 0)]


def test_a_drafter_that_is_always_wrong_prepares_for_corrections_at_the_start():
    assert verdicts(FanOut(), [11]).likeliest(2, 1) == [Verdict(0, 1)]
    assert verdicts(FanOut(), [12]).likeliest(2, 1) == [Verdict(0, 2)]


def test_the_ranks_of_corrections_and_of_bonus_tokens_are_learned_apart():
    fan_out = FanOut()
    for _ in range(200):
        fan_out.note(DRAFT, RANKED, [10, 22])
        fan_out.note(DRAFT, RANKED, [10, 20, 31])
    likely = fan_out.likeliest(2, 15)
    assert likely.index(Verdict(1, 2)) < likely.index(Verdict(1, 1))
    assert likely.index(Verdict(2, 1)) < likely.index(Verdict(2, 0))


def test_tokens_beyond_the_ranks_count_against_all_of_them():
    unknown = verdicts(FanOut(), [99])
    known = verdicts(FanOut(), [11])
    assert sum(unknown._corrections) < 0.2 * sum(known._corrections)


def test_a_plain_step_tells_about_acceptance_only():
    fan_out = FanOut()
    shares = list(fan_out._corrections), list(fan_out._bonuses)
    fan_out.note(DRAFT, RANKED, [10])
    assert (fan_out._corrections, fan_out._bonuses) == shares
    assert fan_out._tried > FanOut()._tried * 0.99 + 0.9
