"""What a package says of the licences of all it brings: Debian's `copyright` file, of the distributions' own words.

Run by the Python of the package, in the root folder where it is made.
"""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import Distribution

__all__ = ["told"]

_HEAD = """\
This package has criimage, and in {place} the Python distributions that it runs with.
Each has its licence here in full, as it came with it.
"""


def told(place: Path) -> Iterator[str]:
    """Yield the text piece by piece: each distribution below `place` with version, licence and the text of that.

    Raises:
        ValueError: one brings no licence and names none.
    """
    yield _HEAD.format(place=place)
    found = {each.metadata["Name"]: each for each in distributions(path=[str(_packages(place))])}
    for name in sorted(found, key=str.lower):
        licence, texts = _licence(found[name])
        if not licence and not texts:
            raise ValueError(f"{name} {found[name].version} names no licence")
        yield f"\n{'=' * 78}\n{name} {found[name].version}: {licence or 'see below'}\n"
        yield from (f"\n{text.strip()}\n" for text in texts)


def _packages(place: Path) -> Path:
    return next(place.glob("lib/python3*/site-packages"))


def _licence(distribution: Distribution) -> tuple[str, list[str]]:
    metadata = distribution.metadata
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if "License ::" in text]
    # What is longer than a name is the text itself.
    named = (metadata["License-Expression"], (metadata["License"] or "").split("\n")[0][:80], ", ".join(classifiers))
    files = [
        file
        for file in distribution.files or ()
        if ".dist-info" in file.parts[0] and file.name.upper().startswith(("LICEN", "COPYING", "NOTICE"))
    ]
    texts = [Path(str(file.locate())).read_text("utf-8", "replace") for file in files]
    return next((name for name in named if name), ""), texts


if __name__ == "__main__":
    sys.stdout.writelines(told(Path(sys.argv[1])))
