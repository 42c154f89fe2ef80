"""Where the maths is done, by name."""

from __future__ import annotations

import torch


def device_named(name: str) -> torch.device:
    """A torch device that can be used here; "auto" is the accelerator, if there is one. Raises ValueError."""
    accelerator = getattr(torch, "accelerator", None)  # torch before 2.6 has none
    if name == "auto":
        found = accelerator is not None and accelerator.is_available()
        return accelerator.current_accelerator() if accelerator is not None and found else torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type != "meta":  # which has no numbers
            torch.empty(1, device=device).fill_(0)
            return device
        reason = "it holds no numbers"
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, AttributeError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
    raise ValueError(
        f"device {name!r} cannot be used: {reason}; expected auto, cpu, or one that torch has here"
    )
