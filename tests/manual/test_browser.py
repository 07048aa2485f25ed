"""Tests every page of the site in a browser, as wide as a laptop's window and as a phone."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urldefrag, urljoin

import pytest
from conftest import DOCS, OTHER
from playwright.sync_api import Browser, Page, sync_playwright

PAGES = [
    str(path.relative_to(DOCS).with_suffix(".html")) for path in sorted(DOCS.rglob("*.md"))
] + ["genindex.html", "search.html"]
WIDTHS = (1280, 390)  # pixels: a laptop's window, and a phone
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# It runs as root too, and asks nobody on the network for updates.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "no Chromium or Chrome here: `tools/run test-docs` installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)  # machines can be busy
        yield page


@pytest.mark.parametrize("width", WIDTHS, ids=lambda width: f"{width}px")
@pytest.mark.parametrize("path", PAGES)
def test_a_page_opens_without_an_error_and_fits(
    path: str, width: int, page: Page, address: str
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"{request.url} failed"))
    page.on("response", lambda r: wrong.append(f"{r.url}: {r.status}") if r.status >= 400 else None)
    page.on(
        "request",
        lambda r: None if r.url.startswith((address, "data:")) else wrong.append(f"asks {r.url}"),
    )
    page.goto(address + path, wait_until="load")
    assert wrong == []
    if width == WIDTHS[0]:
        cut = page.evaluate(
            """() => [...document.querySelectorAll("article .table-wrapper, article pre")]
                .filter(element => element.scrollWidth > element.clientWidth + 1)
                .map(element => element.innerText.slice(0, 80))"""
        )
        assert cut == []
    too_wide = page.evaluate(
        """() => [...document.querySelectorAll("article *")].filter(element => {
            const box = element.getBoundingClientRect();
            return box.width && box.right > document.documentElement.clientWidth + 1
                && !element.closest("pre, .table-wrapper, .sig, .highlight, .headerlink");
        }).map(element => element.outerHTML.slice(0, 200))"""
    )
    assert too_wide == []
    surplus = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert surplus == 0, f"the page is {surplus} pixels too wide"


def test_no_link_is_dead(site: Path, page: Page, address: str) -> None:
    ids: dict[str, set[str]] = {}
    links: set[tuple[str, str]] = set()
    for path in PAGES:
        page.goto(address + path, wait_until="domcontentloaded")
        found, hrefs = page.evaluate(
            """() => [[...document.querySelectorAll("[id]")].map(e => e.id),
                      [...document.querySelectorAll("a[href]")].map(e => e.getAttribute("href"))]"""
        )
        ids[path] = set(found)
        links |= {(path, href) for href in hrefs}
    dead = []
    for path, href in sorted(links):
        url, fragment = urldefrag(urljoin(address + path, href))
        if not url.startswith(address):
            continue
        target = url.removeprefix(address) or "index.html"
        if not (site / target).is_file():
            dead.append(f"{path}: {href}")
        elif fragment and target in ids and fragment not in ids[target]:
            dead.append(f"{path}: {href} (no such place on the page)")
    assert dead == []


@pytest.mark.parametrize("path", ["index.html", "guides/fleet.html", "reference/reports.html"])
def test_a_page_links_to_the_manuals_of_other_versions(path: str, page: Page, address: str) -> None:
    page.goto(address + path, wait_until="domcontentloaded")
    page.locator(".version a", has_text=OTHER).click()
    page.wait_for_url(f"{address}{OTHER}/index.html")


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ("root_dispersion", "reference/reports.html"),
        ("docker debian", "guides/install.html"),
        ("permission denied", "guides/containers.html"),
        ("systemd", "guides/exporter-service.html"),
        ("hostname", "reference/connection.html"),
        ("bash completion", "guides/install.html"),
        ("thresholds", "guides/nagios.html"),
        ("thread safe", "reference/connection.html"),
        ("csv", "guides/from-chronyc.html"),
    ],
)
def test_the_search_leads_to_the_page(words: str, path: str, page: Page, address: str) -> None:
    page.goto(f"{address}search.html?q={quote(words)}")
    page.locator(".search-summary", has_text="Search finished").wait_for()
    links = page.locator("ul.search > li > a").evaluate_all("found => found.map(a => a.pathname)")
    assert f"/{path}" in links[:3]


def test_a_copied_command_has_no_prompt(page: Page, address: str) -> None:
    page.goto(f"{address}guides/first-five-minutes.html")
    block = page.locator(".highlight-console").first
    block.hover()
    block.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[0].startswith("pychrony ")
