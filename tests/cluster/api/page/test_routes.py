"""The page's files over HTTP: complete, checked by tag, and allowed to load nothing from elsewhere."""

import re

import pytest

from cluster.api.door.key_ring import key_line
from cluster.api.page.routes import ASSETS, page_assets, page_paths
from cluster.api.settings import ApiSettings
from tests.cluster.api.conftest import running_api

ELSEWHERE = re.compile(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(""", re.IGNORECASE)
UNSAFE = re.compile(r"(inner|outer|insertAdjacent)HTML|document\.write|\beval\(|new Function|localStorage|DOMParser")


async def test_every_file_is_served_as_what_it_is(api):
    for path, asset in page_assets().items():
        answer = (await api.http.get(path)).raise_for_status()
        assert answer.content == asset.content
        assert answer.headers["content-type"] == asset.media_type
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
        head = await api.http.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])


async def test_a_file_that_the_browser_has_is_not_sent_again(api):
    first = await api.http.get("/")
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = await api.http.get("/", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert (await api.http.get("/", headers={"if-none-match": '"other"'})).status_code == 200
    tags = [asset.etag for asset in page_assets().values()]
    assert len(set(tags)) == len(tags)


async def test_the_page_can_be_turned_off(tokenizer):
    async with running_api(tokenizer, ApiSettings(page=False)) as api:
        for path in page_paths():
            assert (await api.http.get(path)).status_code == 404
        assert (await api.http.get("/v1/cluster")).status_code == 200


async def test_the_files_need_no_key_and_what_they_ask_for_does(tokenizer, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(key_line("ann", "a-key"))
    async with running_api(tokenizer, ApiSettings(api_keys_file=keys)) as api:
        for path in page_paths():
            assert (await api.http.get(path)).status_code == 200
        assert (await api.http.get("/v1/cluster")).status_code == 401
        known = {"authorization": "Bearer a-key"}
        assert (await api.http.get("/v1/cluster", headers=known)).status_code == 200
    async with running_api(tokenizer, ApiSettings(api_keys_file=keys, page=False)) as api:
        assert {(await api.http.get(path)).status_code for path in page_paths()} == {401}


async def test_nothing_else_is_served(api):
    for path in ("/page/", "/page/routes.py", "/page/../app.py", "/page/index.html", "/index.html"):
        assert (await api.http.get(path)).status_code == 404
    assert (await api.http.post("/", json={})).status_code == 405


def test_every_file_of_the_folder_has_a_path_and_every_reference_a_file():
    assert len(page_paths()) == len(list(ASSETS.iterdir()))
    for path, asset in page_assets().items():
        text = asset.content.decode()
        found = re.findall(r'from "\./([^"]+)"', text) if path.endswith(".js") else []
        found += re.findall(r'(?:href|src)="page/([^"]+)"', text) if path == "/" else []
        assert {f"/page/{name}" for name in found} <= page_paths()


@pytest.mark.parametrize("name", sorted(path.name for path in ASSETS.iterdir()))
def test_no_file_names_another_origin_or_makes_markup_of_text(name):
    text = (ASSETS / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert ELSEWHERE.findall(text) == []
    assert UNSAFE.findall(text) == []
    assert not name.endswith(".html") or not re.search(r"\son\w+=|\sstyle=|<style|<script>", text)
    assert len(text.splitlines()) <= 300
