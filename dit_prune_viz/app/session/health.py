"""What the app says of itself to whoever watches over it: no names of people, no work, no secrets."""

from __future__ import annotations

from dit_prune_viz import __version__
from dit_prune_viz.app.session.startup import Startup

OK, LOADING, FAILED = "ok", "loading", "failed"


def health(startup: Startup) -> dict[str, object]:
    """The app's state in JSON's types.

    Returns:
        "status" (ok, loading, or failed where no model could be prepared), "version", "model" (its name once it is
        loaded), "jobs" (how many run or wait).
    """
    session = startup.prepared()
    model = None if session is None else session.model
    waits = session is None and startup.problem is None
    status = LOADING if waits else FAILED if model is None else OK
    return {
        "status": status,
        "version": __version__,
        "model": None if model is None else model.name,
        "jobs": startup.jobs.count(),
    }
