"""One person's work, without gradio: state, verbs, history, jobs, shared models."""
