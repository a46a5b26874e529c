"""The page and the API: gradio lives here and in `app.py`, nowhere else."""
