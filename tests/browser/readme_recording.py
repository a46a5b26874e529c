"""Make the README's recording anew, slider → damage → pictures: `python tests/browser/readme_recording.py`.

Needs Playwright and Chromium, as the browser tests do. A frame lasts as long as the script says and not as long as the
machine took for it, so that the recording is as quick on a slow machine. Look at it before committing it.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from conftest import FLAGS, NAMES
from PIL import Image, ImageChops
from playwright.sync_api import Locator, Page, expect, sync_playwright
from serving import running_app

FILE = Path(__file__).resolve().parents[2] / "assets" / "screenshots" / "tour.webp"
VIEW = {"width": 1280, "height": 720}
SIZE = (1024, 576)
SECONDS, MOST_BYTES = 20, 3_000_000
PROMPTS, STEPS = "grinning face\nred apple", "10"
KIND = "mlp in"
THUMB = 16
"""Pixels of what a slider is taken by."""
CALM = 5
"""Looks at the page after which it counts as calm: a change of the plan is drawn a moment after the slider rests."""
FRAME = 120
"""Milliseconds of a frame in which something moves."""

POINTER = """() => {
  const arrow = document.createElement("div");
  arrow.id = "pointer";
  arrow.style.cssText = "position:fixed;left:0;top:0;z-index:99999;pointer-events:none;width:22px;height:22px;" +
    "filter:drop-shadow(0 1px 1px #0008)";
  arrow.innerHTML = '<svg viewBox="0 0 22 22"><path d="M3 2v16l4-4 3 6 3-1.4-3-6h6z" fill="#fff" stroke="#222"/></svg>';
  document.body.append(arrow);
  document.addEventListener("mousemove", (event) => {
    arrow.style.transform = `translate(${event.clientX - 3}px, ${event.clientY - 2}px)`;
  }, true);
}"""


class Film:
    """Screenshots of a page, each with the milliseconds that it is shown."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._at = (VIEW["width"] // 2, VIEW["height"] // 3)
        self.frames: list[tuple[Image.Image, float]] = []
        page.evaluate(POINTER)
        page.mouse.move(*self._at)

    def shoot(self, milliseconds: float = FRAME) -> None:
        """Add what is seen now; nothing new makes the last frame last longer."""
        shot = Image.open(io.BytesIO(self._page.screenshot(type="jpeg", quality=95)))
        shot = shot.resize(SIZE, Image.Resampling.LANCZOS)
        if self.frames and ImageChops.difference(shot, self.frames[-1][0]).getbbox() is None:
            milliseconds += self.frames.pop()[1]
        self.frames.append((shot, milliseconds))

    def go(self, x: float, y: float, frames: int = 3) -> None:
        """The pointer goes to a place."""
        before = self._at
        for step in range(1, frames + 1):
            share = step / frames
            share = share * share * (3 - 2 * share)
            self._page.mouse.move(*(a + share * (b - a) for a, b in zip(before, (x, y), strict=True)))
            self.shoot()
        self._at = x, y

    def click(self, what: Locator) -> None:
        """The pointer goes to something and presses it."""
        box = what.bounding_box()
        self.go(box["x"] + min(box["width"] / 2, 60), box["y"] + box["height"] / 2)
        self._page.mouse.down()
        self._page.mouse.up()

    def drag(self, slider: Locator, start: float, end: float, frames: int = 12) -> None:
        """The pointer takes a slider, whose shares of its length are given, from one place to another."""
        box = slider.bounding_box()
        y = box["y"] + box["height"] / 2
        first, last = (box["x"] + THUMB / 2 + share * (box["width"] - THUMB) for share in (start, end))
        self.go(first, y)
        self._page.mouse.down()
        self.go(last, y, frames)
        self._page.mouse.up()

    def watch(self, over: Callable[[], bool], milliseconds: float, last: float) -> None:
        """All that changes until something is so and stays so, squeezed into so long; what is there then is held."""
        begin, calm = len(self.frames), 0
        while calm < CALM:
            self.shoot()
            self._page.wait_for_timeout(400)
            calm = calm + 1 if over() else 0
        took = sum(shown for _, shown in self.frames[begin:]) or 1
        self.frames[begin:] = [(shot, shown * milliseconds / took) for shot, shown in self.frames[begin:]]
        self.shoot(last)

    def write(self, path: Path) -> None:
        """The film in its full length, as good as fits."""
        total = sum(shown for _, shown in self.frames)
        times = [max(20, round(1000 * SECONDS * shown / total)) for _, shown in self.frames]
        first, *others = (shot for shot, _ in self.frames)
        for quality in (70, 50, 35, 20):
            options = {"quality": quality, "method": 4, "minimize_size": True, "loop": 0}
            first.save(path, "WEBP", save_all=True, append_images=others, duration=times, **options)
            if path.stat().st_size <= MOST_BYTES:
                break
        print(f"{path}: {path.stat().st_size:,} bytes, {len(times)} frames, {sum(times) / 1000:.1f} s")


def tour(page: Page, film: Film) -> None:
    """A kind of layer is pruned harder, and costs much; the others take over from it, and it costs less."""
    board = page.locator("#layer-board")
    slider, keep = board.locator("input[type=range]"), board.locator("input[type=checkbox]")
    film.shoot(1200)
    film.click(page.locator("#generate"))
    film.watch(lambda: is_drawn(page), 3000, 1300)
    film.click(page.locator("#runs .make-a").first)
    page.wait_for_timeout(500)
    film.shoot(500)
    film.click(page.get_by_role("rowheader", name=f"Kind {KIND}", exact=True))
    film.shoot(600)
    film.click(keep)
    film.drag(slider, 0.5, 0.95)
    film.watch(lambda: is_drawn(page), 3500, 2000)
    film.click(keep)
    film.drag(slider, 0.95, 0.3)
    film.watch(lambda: is_drawn(page), 3500, 3000)


def is_drawn(page: Page) -> bool:
    """Whether pictures are there and nothing is going on."""
    label = page.locator("#picture-pruned label").first.inner_text()
    return page.locator("#runs li").count() > 0 and "draft" not in label and not page.locator(".bar-state.busy").count()


def open_workbench(page: Page) -> None:
    """The Compare page, with prompts that all fit."""
    page.get_by_role("tab", name="Compare").click()
    page.locator("#layer-board .board-cell").first.wait_for()
    expect(page.locator("#prompt textarea")).not_to_have_value("")
    page.locator("#prompt textarea").fill(PROMPTS)
    page.locator("#steps input").fill(STEPS)
    page.keyboard.press("Tab")
    page.wait_for_timeout(2000)


def main() -> None:
    path = next(filter(None, map(shutil.which, NAMES)))
    with (
        tempfile.TemporaryDirectory() as cache,
        running_app(XDG_CACHE_HOME=cache) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport=VIEW)
        page.add_init_script("localStorage.setItem('dit-prune-viz hints seen', 'yes')")
        page.goto(url)
        page.locator('#layer-map [data-points="78"]').first.wait_for(timeout=60_000)
        open_workbench(page)
        film = Film(page)
        tour(page, film)
        film.write(FILE)
        browser.close()


if __name__ == "__main__":
    main()
