"""Tables that are worked on in pieces give what the whole table gives, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks import row_pieces as module
from dit_prune_viz.masks.damage import damage
from dit_prune_viz.masks.row_pieces import row_pieces
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.methods.granularity.heterogeneity import heterogeneity
from dit_prune_viz.methods.saliency.base import layer_scores
from dit_prune_viz.methods.saliency.stw import STW

SHAPE = (1025, 4096)
"""Its last piece would be a single row."""


@pytest.fixture(scope="module")
def weight():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).mul_(0.02).bfloat16()


@pytest.fixture(scope="module")
def norm():
    return torch.rand(SHAPE[1], generator=torch.Generator().manual_seed(4)) + 0.1


@pytest.mark.parametrize("shape", [SHAPE, (1024, 3072), (2049, 1024), (999, 1001), (5, 8), (1, 1 << 21)])
def test_every_row_comes_once_and_none_alone(shape):
    table = torch.arange(shape[0])[:, None].expand(shape)
    parts = [part[:, 0] for (part,) in row_pieces(table)]
    assert torch.equal(torch.cat(parts), torch.arange(shape[0]))
    assert shape[0] == 1 or min(map(len, parts)) > 1
    assert (len(parts) > 1) == (shape[0] * shape[1] > module.PIECE and shape[0] * shape[1] % 4096 == 0 and shape[0] > 1)


@pytest.mark.parametrize(("m", "n"), [(2.0, 1.0), (1.5, 1.0), (1.0, 0.0)])
def test_scores_and_heterogeneity(weight, norm, m, n):
    scores = layer_scores(STW(m, n), "q", weight, {"norm": norm})
    assert torch.equal(scores, weight.float().abs() ** m * norm**n)
    assert heterogeneity(scores) == float(
        (rows := scores.mean(1, dtype=torch.float64)).div(rows.mean()).var(correction=0)
    )


def test_one_score_that_is_not_finite_is_found(weight, norm):
    for bad in (torch.nan, torch.inf, -torch.inf):
        broken = weight.clone()
        broken[700, 5] = bad
        with pytest.raises(UserError, match="Layer q has NaN or infinite weights"):
            layer_scores(STW(), "q", broken, {"norm": norm})


def test_damage(weight, norm):
    mask = torch.rand(SHAPE, generator=torch.Generator().manual_seed(5)) < 0.6
    energy = weight.double().square() * norm.double()
    assert damage(weight, norm, mask) == float(energy.masked_fill(mask, 0).sum()) / float(energy.sum())


def naive_count(scores: np.ndarray, count: int) -> np.ndarray:
    """Kept weights where every row loses its smallest, and then the smallest of what each row would lose next."""
    order = np.argsort(scores, axis=1, kind="stable")
    keep, each = np.ones(scores.shape, bool), count // len(scores)
    np.put_along_axis(keep, order[:, :each], False, axis=1)
    if count % len(scores):
        following = order[:, each]
        rows = np.argsort(scores[np.arange(len(scores)), following], kind="stable")[: count % len(scores)]
        keep[rows, following[rows]] = False
    return keep


@pytest.mark.parametrize("shape", [SHAPE, (7, 12), (1, 9), (40, 1)])
@pytest.mark.parametrize("values", [3, 1 << 20])
def test_exact_counts_by_row(shape, values):
    random = np.random.default_rng(7)
    scores = random.integers(0, values, shape).astype(np.float32)  # few values are tied often
    size = scores.size
    for count in sorted({0, 1, size // 3, size // 2 + 5 if size > 12 else 2, size - 1, size}):
        found = keep_mask(torch.from_numpy(scores), sparsity=0, granularity="row", count=count)
        assert np.array_equal(found.numpy(), naive_count(scores, count)), count
