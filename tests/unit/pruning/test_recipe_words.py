"""Recipes in words."""

from __future__ import annotations

import numpy as np
import pytest

from dit_prune_viz.clustering.packed_labels import pack_labels
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_words import in_words, title_of
from dit_prune_viz.pruning.tuned_layer import TunedClusters, TunedLayer


def clustered(name: str, *sparsity: float | None) -> TunedLayer:
    labels = pack_labels(np.zeros(len(sparsity), int), len(sparsity))
    return TunedLayer(name, 0.5, clusters=TunedClusters("row", labels, sparsity))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(), "DiT-Pruning, 50 %"),
        (Recipe(sparsity=0.6, bounds={"adaLN": (0.4, 0.4)}), "DiT-Pruning, 60 %, adaLN kept at 40 %"),
        (Recipe("wanda", "2:4", ignore="block 0"), "Wanda, 2:4, block 0 kept dense"),
        (Recipe("wanda", ignore="q, k, v"), "Wanda, 50 %, q, k and v kept dense"),
        (Recipe("wanda", ignore="a, b, c, d, e"), "Wanda, 50 %, a, b, c and 2 more kept dense"),
        (Recipe(threshold=0.25), "DiT-Pruning, 50 %, threshold 0.25"),
        (
            Recipe(sparsity=1 / 3, bounds={"q": (0, 0.4), "k": (0.2, 1), "v": (0.2, 0.625)}),
            "DiT-Pruning, 33.33 %, q at most 40 %, k at least 20 %, v at 20–62.5 %",
        ),
        (
            Recipe(bounds={f"block {i}": (0, 1) for i in range(5)}),
            "DiT-Pruning, 50 %, block 0 at most 100 %, block 1 at most 100 %, block 2 at most 100 %, "
            "bounds for two more patterns",
        ),
        (Recipe("wanda", "column"), "Wanda, by column, 50 %"),
    ],
)
def test_words(flux, recipe, words):
    assert in_words(recipe, flux) == words


def test_words_for_layers_set_by_hand(flux):
    adaln = [layer.name for layer in flux.layers if layer.kind == "adaLN"]
    others = [layer.name for layer in flux.layers if layer.kind != "adaLN"]
    plain = Recipe(tuned=[TunedLayer(name, 0.4) for name in adaln])
    assert in_words(plain, flux) == "DiT-Pruning, 50 %, adaLN set to 40 %"
    single = Recipe(tuned=[TunedLayer(adaln[0], 0.4), TunedLayer(others[0], 0.2)])
    assert in_words(single, flux) == "DiT-Pruning, 50 %, two layers by hand"
    clusters = Recipe(tuned=[clustered(others[0], 0.1, None, 0.2)])
    assert in_words(clusters, flux) == "DiT-Pruning, 50 %, two clusters by hand"
    more = Recipe(tuned=[clustered(name, 0.1, None) for name in others[:3]] + [clustered(adaln[0], None, None)])
    assert in_words(more, flux) == "DiT-Pruning, 50 %, three clusters by hand in three layers"
    moved = Recipe(threshold=0.1, tuned=[TunedLayer(layer.name, 0.5, count=3) for layer in flux.layers])
    assert in_words(moved, flux) == "DiT-Pruning, 50 %, threshold 0.1"


def test_titles_of_recipes_without_a_name_say_what_differs():
    """A title for every recipe that was called "Custom, DiT-Pruning" before, and no two alike."""
    told = {
        "DiT-Pruning": Recipe(sparsity=0.7),
        "DiT-Pruning, by row": Recipe(granularity="row"),
        "DiT-Pruning, by column": Recipe(granularity="column"),
        "DiT-Pruning, 2:4": Recipe(granularity="2:4"),
        "stw": Recipe(granularity="layer"),
        "DiT-Pruning, OWL per layer": Recipe(allocation="owl"),
        "DiT-Pruning, Tempered by energy per layer": Recipe(allocation="tempered"),
        "DiT-Pruning, Tempered by energy per layer, weighed by sensitivity": Recipe(
            allocation="tempered", sensitivity=True
        ),
        "DiT-Pruning, early timesteps": Recipe(timestep="early"),
        "DiT-Pruning, own timestep weights": Recipe(timestep="1,1,0,0,0,0,0,0,0,0"),
        "mean, block by block": Recipe(update="mean", sequential=True),
        "Wanda, OWL per layer": Recipe("wanda", allocation="owl"),
    }
    assert {title: title_of(recipe) for title, recipe in told.items()} == {title: title for title in told}
