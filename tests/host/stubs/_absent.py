"""Stand-ins for names of a package that is not installed: importing is fine, using raises.

ComfyUI imports torchvision and torchaudio at start-up, and their wheels do not load beside a CPU-only torch.
The tier-2 tests put this folder on PYTHONPATH only where the real packages are missing.
"""


def absent(package: str):
    """Return a module-level ``__getattr__`` that hands out classes which raise as soon as they are used."""

    def getattr_(name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(self, *args, **kwargs):
            raise ModuleNotFoundError(
                f"{package}.{name} was used, but {package} is not installed here (test stub)"
            )

        return type(name, (), {"__init__": refuse})

    return getattr_
