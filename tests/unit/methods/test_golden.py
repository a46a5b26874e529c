"""Results of methods change with their versions only; see tests/golden_methods.py."""

from __future__ import annotations

import json

import pytest
from golden_methods import FILE, RENEW, Problem, built_in, rows_of, same

from dit_prune_viz.methods.registry import KINDS

METHODS = dict(built_in())


@pytest.fixture(scope="module")
def golden() -> dict[str, dict]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_the_file_holds_every_built_in_method_and_no_other(golden):
    assert list(golden) == sorted(METHODS), f"Methods have come or gone; renew the file with `{RENEW}`."
    assert {name.split(" ")[0] for name in golden} == set(KINDS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_results_change_with_the_version_only(golden, name):
    known, method = golden[name], METHODS[name]
    if method.version != known["version"]:
        pytest.fail(f"{name} has version {method.version}; renew the file with `{RENEW}`.")
    if not same(Problem().result(method), known["result"]):
        pytest.fail(
            f"{name} gives other results than its version {method.version} did. If that is meant, raise `version` in "
            f"{method.__module__}, so that older measurements are not reused, and renew the file with `{RENEW}`."
        )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_result_hangs_on_rounding(golden, name):
    """Or another processor would fail the test above."""
    for shaken in (1, 2, 3):
        assert same(Problem(shaken).result(METHODS[name]), golden[name]["result"])


def test_it_is_the_problem_that_tells_methods_apart(golden):
    results = {name: json.dumps(entry["result"]) for name, entry in golden.items()}
    assert len(set(results.values())) == len(results)
    start = {name: rows_of(mask) for name, mask in Problem().masks.items()}
    for name in ("search swap", "search distil"):
        assert all(rows != start[layer] for layer, rows in golden[name]["result"].items())


def test_a_change_is_noticed(golden):
    assert same(golden["saliency wanda"], json.loads(json.dumps(golden["saliency wanda"])))
    other = json.loads(json.dumps(golden["saliency wanda"]["result"]))
    other["scores"][0][0] *= 1.001
    assert not same(other, golden["saliency wanda"]["result"])
    assert not same({"a": 3}, {"a": 4})
    assert not same({"a": ["01"]}, {"a": ["10"]})
    assert not same({"a": None}, {"a": [1.0]})
