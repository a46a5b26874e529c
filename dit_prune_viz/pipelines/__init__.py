"""Load a diffusers pipeline, list its prunable layers, and know how its family is called."""

from dit_prune_viz.pipelines.defaults import Defaults
from dit_prune_viz.pipelines.kinds import KINDS
from dit_prune_viz.pipelines.layers import Layer, list_layers
from dit_prune_viz.pipelines.model import Model, load_model

__all__ = ["KINDS", "Defaults", "Layer", "Model", "list_layers", "load_model"]
