"""No network at run time: the bundled model is loaded, calibrated, pruned and run with every way out blocked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).parent / "offline_probe.py"


@pytest.fixture(scope="module")
def probe():
    done = subprocess.run([sys.executable, str(PROBE)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_nothing_beyond_loopback_is_ever_asked_for(probe):
    assert probe["attempts"] == []


def test_the_app_did_its_whole_job(probe):
    assert probe["samples"] == 8
    assert abs(probe["achieved"] - 0.3) < 0.01
    assert probe["clip"]["model"] == "bundled emoji-CLIP"


def test_the_page_refers_to_nothing_elsewhere(probe):
    assert probe["fetched"] == []
    assert [sheet for sheet in probe["stylesheets"] if sheet.startswith("http")] == []
    assert probe["plotly"]


def test_the_probe_would_notice():
    code = (
        f"import sys; sys.path.insert(0, {str(PROBE.parent)!r}); import offline_probe as p, urllib.request as r\n"
        "p._guard()\n"
        "try: r.urlopen('http://example.com', timeout=2)\n"
        "except OSError: pass\n"
        "print(p.attempts)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "example.com" in done.stdout
