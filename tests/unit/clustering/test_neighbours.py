"""Nearest units against sorting all distances."""

from __future__ import annotations

import numpy as np
import pytest

from dit_prune_viz.clustering.neighbours import nearest


@pytest.mark.parametrize(("units", "features", "k"), [(60, 2, 5), (200, 11, 8), (4, 2, 8)])
def test_the_nearest_are_those_of_a_full_sort(units, features, k):
    table = np.random.default_rng(units).normal(size=(units, features)) * 10.0 ** np.arange(features) + 3
    asked = np.arange(0, units, 3)
    found = nearest(table.astype(np.float64), asked, k)
    scaled = (table - table.mean(0)) / table.std(0)
    for row, unit in enumerate(asked):
        distances = np.sqrt(((scaled - scaled[unit]) ** 2).sum(1))
        order = [other for other in np.argsort(distances) if other != unit][:k]
        assert found.found[row].tolist() == order
        assert found.distances[row] == pytest.approx(distances[order])


def test_units_in_one_place_are_neighbours_and_none_is_its_own():
    found = nearest(np.ones((6, 2)), np.arange(6), 3)
    assert found.found.shape == (6, 3)
    assert not (found.found == np.arange(6)[:, None]).any()
    assert (found.distances == 0).all()
