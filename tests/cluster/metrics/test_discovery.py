from cluster.metrics.discovery import ScrapeTarget, http_sd


def test_processes_are_listed_by_role():
    found = [ScrapeTarget("drafter", "b:2"), ScrapeTarget("target", "c:1"), ScrapeTarget("drafter", "a:2")]
    assert http_sd(found) == [
        {"targets": ["a:2", "b:2"], "labels": {"role": "drafter"}},
        {"targets": ["c:1"], "labels": {"role": "target"}},
    ]


def test_nobody_to_scrape_is_an_empty_list():
    assert http_sd([]) == []
