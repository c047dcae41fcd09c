"""The overview page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "chromium is not installed: run `WEFT_BROWSER=1 make setup`"
    assert driver, "chromedriver is not installed: run `WEFT_BROWSER=1 make setup`"
    options = Options()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("browser")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
        "--window-size=1440,1200",
    ):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def page(mesh: Mesh, browser: webdriver.Chrome) -> webdriver.Chrome:
    address = mesh.weft_json("local", "status")["web"]
    browser.get(address)
    return browser


def elements(page: webdriver.Chrome, selector: str) -> list[dict[str, str]]:
    """Data attributes and text of what is drawn, all of one moment: the page redraws while a test looks."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => ({...e.dataset, text: e.textContent}))"
    found: list[dict[str, str]] = page.execute_script(script, selector)
    return found


def test_every_workload_is_drawn_with_its_golden_metrics(page: webdriver.Chrome) -> None:
    def drawn() -> None:
        texts = {node["workload"]: node["text"] for node in elements(page, "g.node")}
        names = {workload.rpartition("/")[2] for workload in texts}
        assert {"frontend", "catalog", "reviews-v1", "reviews-v2", "orders", "store", "traffic"} <= names
        for part in ("success", "req/s", "P50"):
            assert part in texts["bookshop/deployment/frontend"]

    eventually(drawn)


def test_mutual_tls_edges_carry_a_closed_padlock_and_the_legacy_client_an_open_one(page: webdriver.Chrome) -> None:
    def locks() -> None:
        found = {(lock["src"], lock["dst"]): lock["secured"] for lock in elements(page, "g.lock")}
        shop = "bookshop/deployment"
        for src, dst in (("traffic", "frontend"), ("frontend", "catalog"), ("orders", "store")):
            assert found.get((f"{shop}/{src}", f"{shop}/{dst}")) == "true", found
        assert found.get(("legacy/deployment/legacy-client", f"{shop}/frontend")) == "false", found

    eventually(locks)


def test_numbers_change_without_a_reload(page: webdriver.Chrome) -> None:
    page.execute_script("window.stillTheSamePage = true")

    def table() -> str:
        return str(page.find_element(By.CSS_SELECTOR, "table.metrics").text)

    before = table()

    def changed() -> None:
        assert table() != before

    eventually(changed, within_s=30)
    assert page.execute_script("return window.stillTheSamePage") is True


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", ["false", "true"])
def test_the_page_fits_the_window(page: webdriver.Chrome, width: int, dark: str, tmp_path: Path) -> None:
    address = page.current_url.partition("?")[0]
    page.set_window_size(width, 1200)
    page.get(f"{address}?dark={dark}")

    def drawn() -> None:
        assert page.find_elements(By.CSS_SELECTOR, "g.node")

    eventually(drawn)
    page.save_screenshot(str(tmp_path / "page.png"))
    scroll, client = page.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert scroll <= client, "the page scrolls sideways"
