"""Open the app: `python app.py`, then visit http://127.0.0.1:7860."""

import sys

from dit_prune_viz.app.process import stopping_at_once

if __name__ == "__main__":
    with stopping_at_once():
        from dit_prune_viz.app.serve import main

        sys.exit(main())
