"""Scores of a picture: CLIP score with its text, SSIM and PSNR with the dense model's picture."""
