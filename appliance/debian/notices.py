"""debian/copyright (DEP-5) of a package: our own paragraph, then one for each distribution it brings.

usage: notices.py VENV OWN-PARAGRAPH. Stops when a distribution brings neither licence name nor text.
"""

import re
import sys
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

_OURS = frozenset({"postkeep", "postkeep-appliance", "postkeep-console"})
_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "AUTHORS")
_APACHE = re.compile(r"^ *Apache License *\n *Version 2\.0, January 2004", re.MULTILINE)
_COMMON = "Apache License 2.0: on Debian systems /usr/share/common-licenses/Apache-2.0 has its text."
_LONG = 80
"""Some put the whole text into the field for the licence's name."""


def notices(venv: Path) -> Iterator[str]:
    """The paragraphs, sorted by name. Raises ValueError for a distribution without a licence."""
    for folder in sorted(venv.glob("lib/python3*/site-packages/*.dist-info")):
        metadata = Parser().parsestr((folder / "METADATA").read_text("utf-8"), headersonly=True)
        name = metadata["Name"].lower().replace("_", "-")
        if name not in _OURS:
            yield _paragraph(name, metadata, folder)


def _paragraph(name: str, metadata: Message, folder: Path) -> str:
    licence = licence_of(metadata)
    texts = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_licence(path)]
    if not licence or not texts:
        raise ValueError(f"{name} comes without {'a text of its licence' if licence else 'a licence'}")
    lines = []
    for path in texts:
        text = path.read_text("utf-8", "replace")
        if _APACHE.search(text):  # whole, or after a line of their own
            text = f"{_APACHE.split(text)[0].rstrip()}\n{_COMMON}"
        lines += [f"[{path.name}]", *text.strip().splitlines(), ""]
    body = "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in lines)
    files = ", ".join(sorted({path.name for path in folder.parent.glob(f"{folder.stem.split('-')[0]}*")}))
    author = " ".join((metadata["Author"] or metadata["Author-email"] or f"the authors of {name}").split())
    short = f"{name}-{metadata['Version']}"
    return (
        f"Files: opt/*/{folder.name}/* opt/*/{name.replace('-', '_')}/*\n"
        f"Copyright: {author}\nComment: {name} {metadata['Version']}: {licence}; {files}\n"
        f"License: {short}\n{body}\n"
    )


def licence_of(metadata: Message) -> str:
    """Its name: the SPDX expression, else the short field, else the classifiers."""
    expression = metadata["License-Expression"] or ""
    field = " ".join((metadata["License"] or "").split())
    classifiers = [one for one in metadata.get_all("Classifier", []) if one.startswith("License ::")]
    if expression:
        return " ".join(expression.split())
    if field and len(field) <= _LONG:
        return field
    return " or ".join(one.rpartition(" :: ")[2] for one in classifiers)


def _is_licence(path: Path) -> bool:
    return "licenses" in path.parts or path.name.upper().startswith(_NAMES)


if __name__ == "__main__":
    print(Path(sys.argv[2]).read_text("utf-8"), *notices(Path(sys.argv[1])), sep="\n")
