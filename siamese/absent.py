"""What stands for pika where it is not installed.

With it --help works all the same, and so does what needs no broker: audit.py.
Modules that name something of pika can be imported; what would use it raises a
Failure that names the remedy.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

REQUIRED = ('pika', 'sympy')  # in requirements.txt


def failure(library: str) -> Exception:
    """Return the Failure of a script that needs a library which is not installed."""
    from common import Failure  # not above: it imports pika

    remedy = '. .venv/bin/activate, or pip install -r requirements.txt'
    if library not in REQUIRED:
        remedy = 'see the files in requirements/'
    return Failure(f'{library} is not installed: {remedy}', 3)


def require_pika() -> None:
    """Raise Failure if pika is not installed."""
    import pika

    if is_absent(pika):
        raise failure('pika')


def is_absent(module: ModuleType) -> bool:
    """Return whether a module is only what stands for it."""
    return isinstance(getattr(module.__spec__, 'loader', None), Finder)


class Nothing(type):
    """The class of Absent: what is looked up in it is Absent too."""

    def __getattr__(cls, _name: str) -> type:
        return Absent

    def __index__(cls) -> int:
        return 0  # for constants that are made of numbers in pika.spec

    def __call__(cls, *_args: object, **_named: object) -> NoReturn:
        raise failure('pika')


class Absent(Exception, metaclass=Nothing):
    """Every name in pika. An exception, so that an except clause may hold it."""


class Finder:
    """The last one in sys.meta_path: finds pika, and the modules in it, as nothing."""

    def find_spec(
        self,
        name: str,
        _path: object = None,
        _target: object = None,
    ) -> Any:
        package = name.partition('.')[0]
        if package != 'pika' or (name != 'pika' and not is_absent(sys.modules['pika'])):
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        """A usual module will do."""

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = lambda _name: Absent  # type: ignore[method-assign]
