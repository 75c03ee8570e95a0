"""What came of each change, kept in a file, so that a run can be cut anywhere and taken up again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOTICED = "noticed"
SURVIVED = "survived"
TOO_LONG = "took too long"
"""Noticed as well: the change made its tests wait or turn in a circle."""
HARMLESS = "harmless"
"""It survived, and `equivalent` says why nobody has to notice."""
UNUSABLE = "tests failed before any change"


@dataclass(frozen=True, slots=True)
class Tried:
    """One change and what came of it.

    Attributes:
        module: the file, from the project's folder.
        digest: of the module's text before the change; another text is another change.
        number: as in `operators.mutant`.
        line: of the change.
        what: the change in words.
        result: one of the words above.
    """

    module: str
    digest: str
    number: int
    line: int
    what: str
    result: str


def digest_of(text: str) -> str:
    """What tells one text of a module from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Results:
    """The lines of a file, the last one for each change; several processes may add to one."""

    def __init__(self, file: Path) -> None:
        """Reads what the file has, if it is there.

        Raises:
            OSError, ValueError: it cannot be read, or is no such file.
        """
        self._file = file
        self._known: dict[tuple[str, str, int], Tried] = {}
        if file.exists():
            for line in file.read_text().splitlines():
                self._keep(Tried(**json.loads(line)))

    def of(self, module: str, digest: str, number: int) -> Tried | None:
        """What came of it when it was last tried."""
        return self._known.get((module, digest, number))

    def add(self, tried: Tried) -> None:
        """Kept at once: what ends the run does not take it back."""
        self._keep(tried)
        with self._file.open("a") as out:
            out.write(f"{json.dumps(asdict(tried))}\n")

    def _keep(self, tried: Tried) -> None:
        self._known[tried.module, tried.digest, tried.number] = tried


def score(tried: list[Tried]) -> str:
    """The share that was noticed of those that somebody has to notice, and the counts it is made of."""
    counted = Counter(one.result for one in tried)
    noticed = counted[NOTICED] + counted[TOO_LONG]
    whole = noticed + counted[SURVIVED]
    share = f"{noticed / whole:.0%}" if whole else "no score"
    return f"{share}: {noticed} of {whole} noticed; {dict(counted)}"
