"""The app: one person's work without gradio in `session`, the page in `pages` and `widgets`."""
