"""One thread at a time builds modules.

While diffusers, transformers, accelerate and peft build a model, they patch `torch.nn` for the whole process and put
back what they found. Two that overlap leave the patch behind: from then on all modules are made without weights
(huggingface/diffusers#4296 and #14347, huggingface/peft#3605).
"""

from __future__ import annotations

import threading

BUILDING = threading.RLock()
"""Held by whoever makes modules. It is taken last, after any `ModelLock`, and nobody waits for other work inside."""
