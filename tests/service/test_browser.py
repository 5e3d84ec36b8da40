"""The page in Debian's Chromium: all four tabs by mouse and by keyboard, on a wide and a narrow screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interplay import Retriever, load_backbone
from interplay.retrieval.continual import run_stream
from tests.lpi.toy import QUICK, picture, stream

from .conftest import classifier
from .test_process import address_of, command

selenium = pytest.importorskip(
    "selenium", reason="selenium drives the browser: pip install 'interplay[service-checks]'"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("chromium") is None or shutil.which("chromedriver") is None,
        reason="needs Debian's packages chromium and chromium-driver",
    ),
]
WAIT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, and a retriever of two sessions with a gallery of pictures and texts."""
    folder, tiny = tmp_path_factory.mktemp("browser"), load_backbone("tiny")
    classifier(tiny, folder / "red", head={"kind": "pair"})
    retriever, _ = run_stream(Retriever(tiny, "linear_map"), stream(2), folder / "shop", settings=QUICK)
    photos = [folder / f"photos/{i}.png" for i in range(6)]
    photos[0].parent.mkdir()
    for i, path in enumerate(photos):
        picture(i, 25 * i).resize((200, 200)).save(path)
    retriever.index(photos, texts=["a cat", "a dog"], uri=folder / "shop/gallery.db", progress=False).close()
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    process = command("serve", "--models", folder, "--port", 0)
    try:
        yield address_of(process)
    finally:
        process.terminate()
        process.communicate(timeout=60)


class Browser:
    """One window."""

    def __init__(self, width: int) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for word in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--force-prefers-reduced-motion",
        ):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        service = webdriver.ChromeService(str(shutil.which("chromedriver")))
        self.driver = webdriver.Chrome(options=options, service=service)
        # A window has a least width; the size of the screen it is told has none.
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )

    def see(self, css: str, words: str = "") -> Any:
        """An element that is shown, once it is there with these words."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        def shown(driver: Any) -> Any:
            found = [one for one in driver.find_elements(By.CSS_SELECTOR, css) if one.is_displayed()]
            return next((one for one in found if words in one.text), None)

        from selenium.common.exceptions import StaleElementReferenceException

        waiting = WebDriverWait(self.driver, WAIT, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(shown, f"{css} with '{words}'")

    def opened(self, address: str) -> None:
        """The page, once it knows the models."""
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver.get(f"{address}/ui/")
        self.see("#classify")
        value = "return document.querySelector('input[aria-label=Classifier]')?.value"
        WebDriverWait(self.driver, WAIT).until(lambda driver: driver.execute_script(value) == "red")

    def tab(self, name: str) -> None:
        self.see("button[role=tab]", name).click()

    def give(self, path: Path) -> None:
        """Choose a picture in the tab that is shown."""
        self.see(".drop input").send_keys(str(path))
        self.see(".drop img")

    def press(self, *keys: str) -> None:
        """Keys of the keyboard, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focus(self, css: str) -> None:
        """Press Tab until an element has the focus."""
        from selenium.webdriver.common.keys import Keys

        for _ in range(60):
            if self.driver.execute_script(f"return document.activeElement.matches({css!r})"):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"Tab never comes to {css}")

    def requested(self) -> set[str]:
        """The hosts that the browser has asked."""
        import json
        from urllib.parse import urlsplit

        events = [json.loads(one["message"])["message"] for one in self.driver.get_log("performance")]
        sent = [
            one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"
        ]
        return {urlsplit(one).hostname or "" for one in sent if one.startswith("http")}


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    window = Browser(request.param)
    try:
        yield window
    finally:
        window.driver.quit()


@pytest.mark.parametrize("browser", [1200], indirect=True)
def test_all_four_tabs_by_mouse(browser: Browser, address: str, folder: Path, tmp_path: Path) -> None:
    browser.opened(address)
    browser.give(folder / "photos/1.png")
    browser.see("textarea").send_keys("red")
    browser.see("#classify").click()
    browser.see("#classified", "Decided by the picture and the text")
    browser.driver.save_screenshot(str(tmp_path / "classify.png"))

    browser.tab("Search")
    browser.give(folder / "photos/2.png")
    browser.see("#search").click()
    browser.see("#found", "6 hits")
    assert "2.png score 1.000" in " ".join(browser.see("#found").text.split())
    browser.driver.save_screenshot(str(tmp_path / "search.png"))

    browser.tab("Gallery and sessions")
    browser.see("#entries", "8 entries")
    browser.see("#entries", "Recall@1")
    browser.see("#refresh").click()
    browser.see("#refreshed", "8 entries seen")
    browser.driver.save_screenshot(str(tmp_path / "gallery.png"))

    browser.tab("Models")
    browser.see("#models", "linear_map")
    browser.see("#unload").click()
    browser.see("#changed", "red is unloaded")
    browser.see("#models", "on disk")
    browser.see("#load").click()
    browser.see("#changed", "red is loaded")
    browser.driver.save_screenshot(str(tmp_path / "models.png"))

    assert browser.requested() == {"127.0.0.1"}
    said = [one["message"] for one in browser.driver.get_log("browser") if one["level"] == "SEVERE"]
    missing = ("manifest.json", "favicon.ico")  # which Gradio does not have either
    assert not [one for one in said if not any(name in one for name in missing)]


@pytest.mark.parametrize("browser", [360], indirect=True)
def test_all_four_tabs_by_keyboard_on_a_narrow_screen(browser: Browser, address: str, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.opened(address)
    assert browser.see(".drop").size["width"] > 200
    browser.focus("textarea")
    browser.press("blue")
    browser.focus("#classify")
    browser.press(Keys.ENTER)
    browser.see("#classified", "The question has no image")
    browser.driver.save_screenshot(str(tmp_path / "narrow-classify.png"))
    for name, place, key, answer, words in (
        ("Search", "#query textarea, #query input", "a cat" + Keys.ENTER, "#found", "6 hits"),
        ("Gallery and sessions", "#refresh", Keys.ENTER, "#refreshed", "8 entries seen"),
        ("Models", "#load", Keys.SPACE, "#changed", "is loaded"),
    ):
        _open_by_keyboard(browser, name)
        browser.focus(place)
        browser.press(key)
        browser.see(answer, words)
        browser.driver.save_screenshot(str(tmp_path / f"narrow-{name.split()[0].lower()}.png"))
        wide = browser.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{name} is {wide} pixels wider than the screen"


def _open_by_keyboard(browser: Browser, name: str) -> None:
    """Go to a tab of the page, and open it."""
    from selenium.webdriver.common.keys import Keys

    browser.driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    for _ in range(60):
        browser.press(Keys.TAB)
        there = browser.driver.execute_script(
            "const at = document.activeElement; return at.matches('[role=tab]') && at.innerText"
        )
        if there and there.strip() == name:
            browser.press(Keys.ENTER)
            return
    raise AssertionError(f"Tab never comes to {name}")
