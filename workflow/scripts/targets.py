"""Names that a user asks for: what was meant by one that does not exist, and which tables a plan is about."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

PREFIXES = ("table_", "figure_", "run_")  # of targets that make one thing
_MISSING = re.compile(r"MissingRuleException\b.*?No rule to produce (.+?) \(if you use", re.DOTALL)


def stop(message: object) -> NoReturn:
    """End before the plan with one line and the exit code of `bevkd` for bad usage; no traceback of Snakefiles."""
    print(f"bevkd: ConfigError: {message}", file=sys.stderr)
    raise SystemExit(2)


def meant(name: str, rules: Collection[str], files: Collection[str]) -> str:
    """The nearest name in brackets, or where all of them are listed.

    Args:
        name: neither a target nor a file that can be made.
        rules: names of all targets.
        files: files that are made.
    """
    from bevkd.errors import nearest

    whole = next((f"{prefix}{name}" for prefix in PREFIXES if f"{prefix}{name}" in rules), None)
    if whole is not None:  # the name of a run or a table alone
        return f" (did you mean {whole!r}?)"
    is_file = "/" in name or Path(name).suffix in {Path(file).suffix for file in files} - {""}
    return nearest(name, files if is_file else rules) or " (`snakemake --list` names all targets)"


class Suggestion(logging.Filter):
    """Says in one line which name was meant, where Snakemake only says that it has no rule for the one given."""

    def __init__(self, rules: Callable[[], Collection[str]], files: Callable[[], Collection[str]]) -> None:
        super().__init__()
        self.rules, self.files = rules, files  # asked for only when a name is wrong

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass; such an error in other words."""
        found = _MISSING.search(str(record.msg)) if record.levelno >= logging.ERROR else None
        if found:
            hint = meant(found[1], self.rules(), self.files())
            record.msg = f"bevkd: ConfigError: no target or file {found[1]!r}{hint}"
        return True

    def install(self, logger: logging.Logger) -> None:
        """Take the place of the one of another workflow in this process."""
        for other in [one for one in logger.filters if type(one).__name__ == type(self).__name__]:
            logger.removeFilter(other)
        logger.addFilter(self)


def items_of(asked: Iterable[str], targets: Mapping[str, Iterable[str]]) -> list[str]:
    """Tables and figures that targets ask for, in order and without repetition.

    Args:
        asked: names from the command line; none: the default target `all`.
        targets: names of tables and figures by target.
    """
    return list(dict.fromkeys(item for name in list(asked) or ["all"] for item in targets.get(name, ())))
