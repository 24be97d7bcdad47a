"""What the scripts at the root are made of, package by package."""

VERSION = '1.0.0'  # of the whole collection

TYPE_CHECKING = False  # that of typing takes 5 ms to import
if TYPE_CHECKING:
    from pathlib import Path

    ROOT: Path


def __getattr__(name):  # type: ignore[no-untyped-def]
    """Make ROOT, the folder of the scripts, when it is asked for.

    pathlib takes 12 ms to import, and a script imports this package before it
    hears signals (start.py).
    """
    if name != 'ROOT':
        raise AttributeError(name)
    from pathlib import Path

    return Path(__file__).resolve().parent.parent
