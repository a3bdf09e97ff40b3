"""Whether this Python can run the program; if not, one line that says what to type.

`app.py` and the command lines call it before they import anything of a package. So this file, and
the `__init__.py` of its package, stay readable for every Python from 3.8 on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

_OLDEST = (3, 11)
_FOLDER = Path(__file__).resolve().parent.parent
# The name that PyPI has for a module, where it is another.
_PACKAGES = {"dotenv": "python-dotenv", "pydantic_core": "pydantic"}


def explain_missing_packages() -> None:
    """End the process where Python is too old; explain, later, a package that is not installed.

    Takes and returns nothing; raises `SystemExit`. Any other fault keeps its traceback.
    """
    if sys.version_info < _OLDEST:
        wanted = ".".join(str(number) for number in _OLDEST)
        has = ".".join(str(number) for number in sys.version_info[:3])
        sys.exit(
            f"Python {wanted} or newer is needed, and {sys.executable} is Python {has}.\n"
            f"In {_FOLDER} type: make env PYTHON=python{wanted}. Then: ./bot backups status"
        )
    sys.excepthook = _without_traceback


def _without_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The `sys.excepthook`: Python calls it for what nobody caught, and then exits with 1."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or not name or (_FOLDER / name).exists():
        sys.__excepthook__(kind, error, trace)
        return
    package = _PACKAGES.get(name, name)
    sys.stderr.write(f"The package {package} is not installed for {sys.executable}.\n{_remedy()}\n")


def _remedy() -> str:
    own = _FOLDER / ".venv"
    if Path(sys.prefix).resolve() == own.resolve():
        return f"Install all packages anew: cd {_FOLDER}, then: make clean env"
    ready = "" if (own / "bin" / "python").exists() else "make env, then "
    return (
        f"The packages are for the Python in .venv. In {_FOLDER} type: {ready}"
        "./bot backups status (or make run, to start the app)"
    )
