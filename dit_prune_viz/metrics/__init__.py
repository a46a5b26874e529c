"""Scores of a picture: CLIP score with its text, SSIM and PSNR with the dense model's picture."""

from dit_prune_viz.metrics.clip import ClipScorer, load_clip
from dit_prune_viz.metrics.pictures import amplified_differences, difference, psnr, ssim

__all__ = ["ClipScorer", "amplified_differences", "difference", "load_clip", "psnr", "ssim"]
