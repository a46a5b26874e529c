"""Numbers as people read them."""

from __future__ import annotations

import pytest

from dit_prune_viz.formatting import percent

SHARES = {
    0.0: "0 %",
    0.5: "50 %",
    0.4999999: "50 %",
    0.625: "62.5 %",
    1 / 3: "33.3 %",
    0.09994: "9.99 %",
    0.0499996: "5 %",
    0.00512: "0.51 %",
    0.000415: "0.042 %",
    0.00001: "0.001 %",
    0.000009: "under 0.001 %",
    0.9996: "99.96 %",
    0.99995: "over 99.99 %",
    1.0: "100 %",
    2.5: "250 %",
}


@pytest.mark.parametrize(("share", "text"), SHARES.items())
def test_percentages_have_the_digits_that_mean_something(share, text):
    assert percent(share) == text


def test_what_somebody_typed_keeps_its_digits():
    assert percent(0.3333, 4) == "33.33 %"
    assert percent(0.5, 4) == "50 %"
