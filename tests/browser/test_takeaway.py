"""Two clusters tuned by hand leave the app in every way, and come back in a process of its own, bit for bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from serving import running_app
from test_app import shoot

AGAIN = """
import hashlib, json, sys
import dit_prune_viz as dpv
model = dpv.load_model("assets/emoji-flux", device="cpu", dtype="float32")
pruned = dpv.prune(model, sys.argv[1])
call = dict(height=128, width=128, num_inference_steps=2, max_sequence_length=16)
def picture(pipeline):
    import torch
    image = pipeline("red apple", generator=torch.Generator().manual_seed(0), **call).images[0]
    return hashlib.sha256(image.tobytes()).hexdigest()
with pruned:
    found = [picture(model.pipeline)]
found.append(picture(dpv.load_packed(sys.argv[2])))
from diffusers import DiffusionPipeline
import torch
found.append(picture(DiffusionPipeline.from_pretrained(sys.argv[3], torch_dtype=torch.float32)))
print(json.dumps({"removed": pruned.report.removed, "pictures": found}))
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("out") / "pruned"


@pytest.fixture(scope="module")
def app_url(tmp_path_factory, out):
    """An app that writes into a folder of the test's."""
    with running_app("--out", str(out), XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache"))) as url:
        yield url


def write(page: Page, way: str, ending: str) -> None:
    page.locator(f"#write-{way}").click()
    expect(page.locator("#takeaway-told")).to_contain_text(f"{ending},", timeout=120_000)


@pytest.mark.parametrize("scheme", ["dark"])
def test_a_plan_tuned_by_hand_is_taken_away_and_comes_back(page: Page, out, screenshots, scheme):
    page.get_by_role("tab", name="Layer").click()
    rows = page.locator("#cluster-table tbody tr")
    rows.first.wait_for()
    exact = page.locator('.fact[data-fact="Sparsity"]')  # its counts, on hover
    for row, percent in ((rows.first, "80"), (rows.last, "20")):
        before = exact.get_attribute("title")
        row.locator("input[type=range]").fill(percent)
        expect(exact).not_to_have_attribute("title", before)
    page.get_by_role("tab", name="Take away").click()
    expect(page.locator("#takeaway-headline")).to_contain_text("two clusters by hand")
    expect(page.locator("#way-packed .way-size b")).to_have_text(re.compile(r"≈ \d+\.\d MB"))
    expect(page.locator("#bar")).to_contain_text("× smaller")
    page.locator("#takeaway-name input, #takeaway-name textarea").fill("mine")
    for way, ending in (("recipe", ".json"), ("packed", "-packed"), ("diffusers", "-diffusers"), ("report", ".html")):
        write(page, way, f"mine{ending}")
    shoot(page, screenshots, f"{scheme}-takeaway")
    with page.expect_download() as download:
        page.locator("#download-recipe").click()
    assert json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["tuned"]
    page.locator("#write-recipe").click()
    expect(page.locator("#bar .problem")).to_contain_text("exists already")

    command = [sys.executable, "-c", AGAIN, *(str(out / f"mine{end}") for end in (".json", "-packed", "-diffusers"))]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(set(found["pictures"])) == 1
    tuned = re.compile(f"{found['removed']:,} of ")
    expect(exact).to_have_attribute("title", tuned)

    page.locator("#sparsity input[type=number]").fill("30")
    page.locator("#sparsity input[type=number]").press("Enter")
    expect(exact).not_to_have_attribute("title", tuned)
    page.locator("#takeaway-open button").first.click()
    page.locator("#takeaway-recipe input[type=file]").set_input_files(str(out / "mine.json"))
    # While it goes up the name is plain text; the cell stands for the file that has arrived.
    expect(page.locator("#takeaway-recipe").get_by_role("cell", name="mine.json")).to_be_visible()
    page.locator("#takeaway-open-run").click()
    expect(page.locator("#takeaway-notes")).to_contain_text("two clusters by hand")
    expect(exact).to_have_attribute("title", tuned)
