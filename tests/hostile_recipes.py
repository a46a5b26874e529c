"""Recipes as somebody might send them who means no good: hypothesis draws them, and each says of which kind it is."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cache

from hypothesis import strategies as st

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import read_recipe
from dit_prune_viz.pruning.recipe_words import in_words

MARKUP = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[a](javascript:alert(1))",
    "![a](http://192.0.2.1/x.png)",
    "`x`",
    "$$\\href{javascript:alert(1)}{x}$$",
    "${alert(1)}",
    "{{7*7}}",
    "%{customdata}",
)
PATHS = (
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "C:\\x",
    "a/../../b",
    "file:///etc/passwd",
    "nul\0l",
    "~/.ssh/id_rsa",
)
ODD = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    10**400,
    -(10**4000),
    1e308,
    5e-324,
    -0.0,
    0.5,
    "",
    " ",
    "\ud83d",
    "\u202e",
    "x" * 100_000,
    "2:4",
    "0:0",
    "999999999:1000000000",
    [],
    {},
    [[]],
    [None],
    {"": {}},
)
FIELDS = [item.name for item in fields(Recipe)]
SETTINGS = [item.name for item in fields(CalibrationSettings)]

_word = st.sampled_from((*MARKUP, *PATHS)) | st.text(max_size=40)
_leaf = st.sampled_from(ODD) | _word | st.floats(allow_nan=False) | st.integers()
_tree = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_word, inner, max_size=4), max_leaves=8
)


def _json(values: object) -> str:
    return json.dumps(values, ensure_ascii=True)


_fields = st.dictionaries(st.sampled_from(FIELDS), _tree, min_size=1, max_size=5).map(_json)
_calibration = st.dictionaries(st.sampled_from(SETTINGS), _tree, max_size=4).map(
    lambda own: _json({"calibration": own})
)
_unknown = st.dictionaries(_word, _tree, min_size=1, max_size=3).map(_json)
_other_version = _leaf.map(lambda schema: _json({"schema": schema, "sparsity": 0.5}))
_no_object = _tree.map(_json) | st.text(max_size=200)
_not_finite = st.sampled_from(("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "1" * 5000)).flatmap(
    lambda number: st.sampled_from(FIELDS).map(lambda name: f'{{"{name}": {number}}}')
)
_twice = st.tuples(st.sampled_from(FIELDS), _leaf, _leaf).map(
    lambda own: f"{{{_json(own[0])}: {_json(own[1])}, {_json(own[0])}: {_json(own[2])}}}"
)
_deep = st.tuples(st.sampled_from(FIELDS), st.integers(500, 60_000), st.sampled_from(("[", '{"a":'))).map(
    lambda own: f'{{"{own[0]}": {own[2] * own[1]}'
) | st.integers(500, 60_000).map(lambda depth: f'{{"tuned": {"[" * depth}{"]" * depth}}}')
_huge = st.tuples(st.sampled_from(FIELDS), st.integers(1, 50_000)).map(
    lambda own: _json({own[0]: [0.5] * own[1]})
) | st.integers(1, 20_000).map(lambda count: _json({f"k{i}": i for i in range(count)}))
_specs = st.tuples(
    st.sampled_from(("saliency", "granularity", "allocation", "update", "timestep")),
    st.sampled_from(("stw", "wanda", "swap", "cag", "rescale", "uniform", "2:4", "magnitude", "row")),
    st.sampled_from((":", ":nan", ":inf,1", ":1e999", ":-1", ":1,1,1,1,1", ":1e-400", ":9" * 50))
    | _word.map(":{}".format),
).map(lambda own: _json({own[0]: own[1] + own[2]}))


def _changed(values: dict, path: tuple[str | int, ...], value: object) -> str:
    place = values
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return _json(values)


def _places(values: object, path: tuple = ()) -> list[tuple]:
    steps = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    found = []
    for step, inner in steps:
        found += [(*path, step), *_places(inner, (*path, step))]
    return found


@cache
def recipes(whole: str) -> st.SearchStrategy[tuple[str, str]]:
    """(kind, text) of recipes, `whole` being a sound one of the model with work by hand in it."""
    places = _places(json.loads(whole))
    changed = st.tuples(st.sampled_from(places), _tree).map(lambda own: _changed(json.loads(whole), *own))
    named = st.tuples(st.sampled_from([one for one in places if one[-1] in ("name", "layer", "source")]), _word).map(
        lambda own: _changed(json.loads(whole), *own)
    )
    cut = st.integers(0, len(whole)).map(lambda end: whole[:end])
    kinds = {
        "fields": _fields,
        "calibration": _calibration,
        "unknown keys": _unknown,
        "other versions": _other_version,
        "no object": _no_object,
        "not finite": _not_finite,
        "keys twice": _twice,
        "deep": _deep,
        "huge": _huge,
        "options of methods": _specs,
        "a value changed": changed,
        "markup and paths in names": named,
        "cut short": cut,
    }
    return st.sampled_from(sorted(kinds)).flatmap(lambda kind: kinds[kind].map(lambda text: (kind, text)))


def outcome(text: str, model: Model, *, carry_over: bool) -> str:
    """ "recipe" or "refused": what comes of a text. Anything else than one plain sentence is an error."""
    try:
        found = read_recipe(text, model, carry_over=carry_over)
        words = [in_words(found.recipe, model), *found.dropped]
    except UserError as error:
        sentence = str(error)
        assert sentence.endswith("."), sentence
        assert "\n" not in sentence, sentence
        assert 10 < len(sentence) < 600, sentence
        return "refused"
    assert all("\n" not in one for one in words), words
    return "recipe"
