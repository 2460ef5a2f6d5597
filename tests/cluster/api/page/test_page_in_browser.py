"""The page as a person uses it, in a real Chromium. The model is scripted; all between it and the screen is real.

Screenshots go to the folder that OUTRIDER_SCREENSHOTS names, for people to look at.
"""

import asyncio
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.api.door.key_ring import key_line
from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import running_api
from tests.cluster.api.page.browser import Browser, chromium, driver_options
from tests.support.tiny_models import byte_tokenizer
from workers.contract.draft import DraftSource
from workers.tokenizer import Tokenizer

PROMPT = "Why is the sky blue?"
ANSWER = """The sky looks blue because air scatters short waves of light far more than long ones.

Sunlight holds every colour. On its way through the air it meets molecules that are much smaller than a wave, and \
such small things scatter blue light some four times as much as red light. So wherever you look, away from the sun, \
blue is what reaches your eye. <b>Not bold</b>, & never markup: 世界 🚀.

At sunset the light takes a longer way through the air: most of the blue has been scattered out of it, and what is \
left is red."""
NUM_COLOURS = 3


@pytest.fixture(scope="module")
def words_tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("words")
    byte_tokenizer(re.findall(r" ?[A-Za-z]+", ANSWER)).save_pretrained(folder)
    return Tokenizer.from_folder(folder)


@pytest.fixture
async def page_api(words_tokenizer):
    """A target that verifies drafts of four tokens at a reader's pace; every fourth draft is looked up."""
    driver_options()
    kinds = [DraftSource.DRAFTER] * 3 + [DraftSource.LOOKUP]
    options = {"step_s": 0.03, "burst": 4, "rejected": 1, "source": lambda step: kinds[step % 4]}
    async with running_api(words_tokenizer, ApiSettings(), **options) as api:
        prompt = words_tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}])
        end = sorted(words_tokenizer.eos_token_ids)[:1]
        api.engine.script[tuple(prompt)] = words_tokenizer.encode(ANSWER) + end
        plain_load = api.engine.load

        def load():
            found = plain_load()
            rows = found.generated_tokens // 4
            return replace(
                found,
                steps=rows,
                steps_by_way=(0, 0, rows // 5, rows - rows // 5, 0),
                rows_by_draft_length=(0, 0, 0, 0, rows),
                busy_seconds=0.02 * rows,
                draft_wait_seconds=0.005 * rows,
                goodput_plain=30.0,
                goodput_drafted=90.0,
                kv_usage=0.1 + 0.2 * found.running,
            )

        api.engine.load = load
        yield api


async def in_browser(api, profile: Path, visit) -> None:
    """Let ``visit`` use the page in a thread; the application goes on in this one. Nothing may come from elsewhere."""

    def run() -> None:
        with chromium(api.url, profile) as browser:
            browser.size(1280, 900)
            browser.open()
            visit(browser)
            browser.look_back()
            assert browser.requests
            assert [url for url in browser.requests if not url.startswith(f"{api.url}/")] == []
            assert browser.complaints == []

    await asyncio.to_thread(run)


def picture(browser: Browser, name: str) -> None:
    if folder := os.environ.get("OUTRIDER_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(folder) / f"{name}.png")


def send(browser: Browser) -> None:
    before = len(browser.all("#run-rows tr"))
    browser.find("#send").click()
    browser.until(
        lambda: not browser.find("#send").is_enabled() or len(browser.all("#run-rows tr")) > before,
        "the request is under way, or over before anybody looked",
    )


def ended(browser: Browser) -> None:
    browser.until(lambda: browser.find("#send").is_enabled(), "the answer has ended")


def shown_sources(browser: Browser) -> list[list[str]]:
    script = "return [...document.querySelectorAll('#answer .token')].map(t => [t.classList[1], t.textContent])"
    return browser.run(script)


def ready(browser: Browser) -> None:
    browser.until(lambda: "4,096 tokens" in browser.text("#model"), "the model is named")
    browser.until(lambda: browser.text("#cluster-state") == "live", "the cluster is described")


async def test_an_answer_with_and_without_speculation(page_api, tmp_path):
    def visit(browser: Browser) -> None:
        ready(browser)
        page_api.engine.pause()
        send(browser)
        browser.until(lambda: "1 running" in browser.text("#picture"), "the request is in the picture")
        page_api.engine.resume()
        browser.until(lambda: len(shown_sources(browser)) > 40, "tokens arrive")
        assert not browser.find("#send").is_enabled(), "the first tokens are there before the last ones"
        picture(browser, "1-desktop-streaming")
        ended(browser)
        tokens = shown_sources(browser)
        assert "".join(text for _, text in tokens) == ANSWER == browser.text("#answer")
        assert {kind for kind, _ in tokens} == {"drafter", "lookup", "target"}
        assert browser.all("#answer b") == [], "text is text, whatever it looks like"
        colour = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"
        kinds = ("drafter", "lookup", "target")
        assert len({browser.run(colour, f"#answer .{kind}") for kind in kinds}) == NUM_COLOURS
        # The last verification ends early, and the first of four tokens may complete a character of several.
        assert 3.5 < float(browser.text("#per-verification")) <= 4
        assert browser.text("#accepted") == "75%"
        assert browser.text("#runs").count("first") == 1
        columns = "return [...document.querySelectorAll('#strip span')].map(s => [...s.children].map(c => c.className))"
        drafted = browser.run(columns)
        assert ["drafter", "drafter", "drafter", "target", "rejected"] in drafted
        assert ["lookup", "lookup", "lookup", "target", "rejected"] in drafted

        browser.find(".switch").click()
        assert not browser.find("#speculation").is_selected()
        send(browser)
        ended(browser)
        assert {kind for kind, _ in shown_sources(browser)} == {"target"}
        assert browser.text("#answer") == ANSWER
        assert browser.text("#per-verification") == "1.00"
        assert re.fullmatch(
            r"With speculation [\d.]+ times as fast .* the text is the same\.", browser.text("#verdict")
        )
        assert [row.text.split()[0] for row in browser.all("#run-rows tr")] == ["none", "any"]
        browser.until(lambda: "idle" in browser.text("#cluster-figures"), "the cluster's time is shown")
        picture(browser, "2-desktop-compared")
        browser.scheme("dark")
        assert browser.run("return getComputedStyle(document.body).backgroundColor") != "rgb(247, 247, 245)"
        picture(browser, "3-desktop-dark")

    await in_browser(page_api, tmp_path, visit)
    first, second = page_api.engine.submitted
    assert (first.max_draft_tokens, second.max_draft_tokens) == (None, 0)
    assert first.params == second.params
    assert first.params.seed == 7


async def test_the_cluster_is_described(page_api, tmp_path):
    def visit(browser: Browser) -> None:
        ready(browser)
        label = browser.find("#picture").get_attribute("aria-label")
        assert label == "2 drafters and 1 target; 0 requests running, 0 waiting"
        assert len(browser.all("#picture .drafter")) == 2
        assert "KV cache 10%" in browser.text("#picture")
        assert browser.text("#drafters") == "Drafting: small", "of the other only the name is known"
        assert "at rest" in browser.text("#way")
        send(browser)
        browser.until(lambda: "run-ahead" in browser.text("#way"), "the way is named")
        assert "90.0 tokens per second with drafters and 30.0 without" in browser.text("#cluster-figures")
        ended(browser)
        browser.until(lambda: float(browser.text("#cluster-speed").replace(",", "")) > 0, "the speed is measured")
        cells = "document.querySelectorAll('#cluster-figures td:last-child')"
        figures = f"return [...{cells}].map(cell => cell.textContent)"
        browser.until(lambda: int(browser.run(figures)[0]) > 100, "targets report twice a second")
        _, per_verification, accepted = browser.run(figures)
        assert per_verification.startswith("4.0"), "the last verification may be cut short"
        assert accepted == "75%"
        asked = "return performance.getEntriesByType('resource').filter(e => e.name.endsWith('/v1/cluster')).length"
        browser.run("Object.defineProperty(document, 'visibilityState', {get: () => 'hidden', configurable: true})")
        browser.run("document.dispatchEvent(new Event('visibilitychange'))")
        before = browser.run(asked)
        browser.run("return new Promise(r => setTimeout(r, 2500))")
        assert browser.run(asked) == before, "nobody asks for what nobody sees"
        browser.run("delete document.visibilityState; document.dispatchEvent(new Event('visibilitychange'))")
        browser.until(lambda: browser.run(asked) > before, "seen again, it is asked for again")

    await in_browser(page_api, tmp_path, visit)


async def test_stopping_settings_and_errors(page_api, tmp_path):
    loop = asyncio.get_running_loop()

    def visit(browser: Browser) -> None:
        ready(browser)
        browser.type("#temperature", "0")
        browser.type("#max-tokens", "9")
        browser.type("#seed", "11")
        options = "return [...document.querySelector('#drafter').options].map(option => option.value)"
        assert browser.run(options) == ["any", "lookup", "gone", "small"]
        browser.run("document.querySelector('#drafter').value = 'small'")
        send(browser)
        ended(browser)
        assert browser.text("#tokens") == "9"
        assert browser.text("#state").startswith("Cut at the limit: 9 tokens")
        assert browser.text("#run-rows th") == "small"
        browser.find(".switch").click()
        assert not browser.find("#drafter").is_enabled()
        browser.find(".switch").click()

        browser.type("#max-tokens", "4000")
        browser.type("#prompt", "Go on and on")
        send(browser)
        browser.until(lambda: len(shown_sources(browser)) > 20, "tokens arrive")
        browser.find("#stop").click()
        ended(browser)
        assert browser.text("#state").startswith("Stopped")
        assert browser.find("#error").get_attribute("hidden")

        browser.type("#max-tokens", "100000")
        browser.find("#send").click()
        browser.until(lambda: browser.find("#error").is_displayed(), "the error is shown")
        assert "max_tokens is 100000" in browser.text("#error")
        # The browser itself notes answers with an error status; the page has nothing to add.
        browser.look_back()
        assert len(browser.complaints) == 1
        assert "400" in browser.complaints.pop()

        browser.type("#max-tokens", "5")
        browser.run("document.querySelector('#mode').value = 'text'")
        browser.find("#prompt").send_keys(*["\ue009", "\ue007"])  # Ctrl+Enter
        browser.until(lambda: browser.text("#tokens") == "5", "the text is continued")
        ended(browser)
        assert not browser.find("#error").is_displayed()

        asyncio.run_coroutine_threadsafe(page_api.target.stop(), loop).result()
        browser.until(lambda: browser.text("#cluster-state") == "targets are missing", "the loss is told")
        assert "none reached" in browser.text("#picture")
        browser.find("#send").click()
        browser.until(lambda: browser.find("#error").is_displayed(), "the error is shown")
        assert browser.text("#error") == "no target can serve the request now; try again in 2 s"
        browser.look_back()
        assert [complaint for complaint in browser.complaints if "503" not in complaint] == []
        browser.complaints.clear()

    await in_browser(page_api, tmp_path, visit)
    submitted = page_api.engine.submitted
    assert (submitted[0].params.temperature, submitted[0].params.seed, submitted[0].drafter) == (0.0, 11, "small")
    await page_api.eventually(lambda: len(page_api.engine.cancelled) == 1)
    assert list(submitted[-1].prompt) == page_api.tokenizer.encode("Go on and on")


async def test_a_key_stays_in_the_tab_and_goes_into_the_header(words_tokenizer, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(key_line("ann", "sk-secret"))

    def visit(browser: Browser) -> None:
        browser.until(lambda: browser.text("#model") == "needs an API key", "the key is asked for")
        assert browser.find("#key").is_displayed()
        assert not browser.find("#send").is_enabled()
        browser.look_back()
        assert browser.complaints
        assert all("401" in complaint for complaint in browser.complaints), "the browser's own notes, and no others"
        browser.complaints.clear()
        browser.type("#key", "sk-secret")
        browser.find("#key-form button").click()
        ready(browser)
        assert browser.run("return [sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        browser.look_back()
        send(browser)
        ended(browser)
        assert len(shown_sources(browser)) > 0
        sent = [message["params"]["request"] for message in browser.sent()]
        headers = [{name.lower(): value for name, value in one["headers"].items()} for one in sent]
        assert any(one["url"].endswith("/v1/chat/completions") for one in sent)
        assert all(one["authorization"] == "Bearer sk-secret" for one in headers)
        assert not any("sk-secret" in one["url"] for one in sent)
        browser.find("#access summary").click()
        browser.find("#forget").click()
        assert browser.run("return sessionStorage.length") == 0
        browser.until(lambda: browser.text("#model") == "needs an API key", "the key is forgotten")
        browser.look_back()
        assert all("401" in complaint for complaint in browser.complaints)
        browser.complaints.clear()

    driver_options()
    async with running_api(words_tokenizer, ApiSettings(api_keys_file=keys)) as api:
        await in_browser(api, tmp_path / "profile", visit)
    assert [request.tenant for request in api.engine.submitted] == ["ann"]


async def test_a_phone(page_api, tmp_path):
    def visit(browser: Browser) -> None:
        browser.size(320, 640, phone=True)
        ready(browser)
        browser.find(".switch").click()
        send(browser)
        ended(browser)
        browser.find(".switch").click()
        send(browser)
        ended(browser)
        assert "the text is the same" in browser.text("#verdict")
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            width = "return [document.documentElement.scrollWidth, window.innerWidth]"
            assert browser.run(width) == [320, 320], "nothing makes the page wider than the screen"
            picture(browser, f"4-phone-{scheme}")
        small = """return [...document.querySelectorAll('button, input, select, textarea, summary')]
            .filter(e => e.getClientRects().length && e.id !== 'speculation')
            .map(e => [e.id || e.textContent, e.getBoundingClientRect().height]).filter(([, h]) => h < 24)"""
        assert browser.run(small) == [], "a finger finds everything"
        unnamed = """return [...document.querySelectorAll('button, input, select, textarea, [role]')]
            .filter(e => !e.labels?.length && !e.textContent.trim() && !e.getAttribute('aria-label')
                         && !['status', 'alert'].includes(e.getAttribute('role')))
            .map(e => e.outerHTML)"""
        assert browser.run(unnamed) == []

    await in_browser(page_api, tmp_path, visit)
