"""What a map can show of every layer: its name for people, what it means, its unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistic:
    """One number per layer; `log` where colours and axes follow its logarithm."""

    label: str
    help: str
    unit: str = ""
    log: bool = False


STATISTICS = {
    "damage": Statistic(
        "Predicted damage",
        "share of the layer's own output energy that the mask removes; where it is low, weights go at little cost. "
        "It cannot know what the rest of the model makes of that output, so between layers it may mislead",
        unit="%",
    ),
    "sparsity": Statistic("Sparsity", "share of the layer's weights that are pruned", unit="%"),
    "g_out": Statistic(
        "Row heterogeneity (G_out)",
        "how much the output rows differ in importance, Var / Mean² of their mean saliency; CAG, the clustering-aware "
        "granularity, prunes layers above a threshold row by row",
        log=True,
    ),
    "sensitivity": Statistic(
        "Measured sensitivity",
        "relative squared error of the transformer's output after guidance, on held-out inputs, with this layer alone "
        "pruned to 50 %. It cannot know how errors of several layers and steps add up",
        unit="%",
        log=True,
    ),
    "weights": Statistic("Weights", "number of weights in the layer", log=True),
    "weight_scale": Statistic("Weight scale", "root mean square of the weights", log=True),
    "magnitude_damage": Statistic(
        "Magnitude damage",
        "share of the squared weights that the half with the smallest magnitudes holds, from a sample of the weights; "
        "known before calibration",
        unit="%",
    ),
    "activation_norm": Statistic(
        "Activation norm",
        "root mean square of ‖X_j‖₂ over input channels; for one timestep bin, scaled to the tokens of all bins",
        log=True,
    ),
    "ratio": Statistic("Activation ÷ weight", "activation norm divided by weight scale", log=True),
}
"""The first one answers what a newcomer asks: where weights can go at little cost."""
