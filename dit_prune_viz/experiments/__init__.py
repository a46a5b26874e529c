"""Experiments: methods × sparsities × prompts × seeds, measured, resumable, as tables and files."""

from dit_prune_viz.experiments.candidates import CANDIDATES, Candidate, find_candidates, parse_candidate
from dit_prune_viz.experiments.converge import convergence_table, find_convergence
from dit_prune_viz.experiments.experiment import Experiment, with_seeds
from dit_prune_viz.experiments.levels import Level, parse_level, parse_levels
from dit_prune_viz.experiments.prompts import PromptSet, held_out, read_prompts, split
from dit_prune_viz.experiments.prune import Pruned, prune
from dit_prune_viz.experiments.results import Results, Row
from dit_prune_viz.experiments.run import Outcome, run

__all__ = [
    "CANDIDATES",
    "Candidate",
    "Experiment",
    "Level",
    "Outcome",
    "PromptSet",
    "Pruned",
    "Results",
    "Row",
    "convergence_table",
    "find_candidates",
    "find_convergence",
    "held_out",
    "parse_candidate",
    "parse_level",
    "parse_levels",
    "prune",
    "read_prompts",
    "run",
    "split",
    "with_seeds",
]
