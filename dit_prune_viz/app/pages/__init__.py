"""The pages: each with its layout and wiring (page.py), its figures and words (view.py), and its style."""
