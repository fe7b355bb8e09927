"""python -m ovf.documentation: puts the table of the OVF properties into docs/admin/unattended.md."""

import sys
from pathlib import Path

from ovf.properties import Properties, Property, PropertyError, load

PAGE = Path("docs/admin/unattended.md")
_BEGIN = "<!-- properties: made by python -m ovf.documentation, do not edit -->\n"
_END = "<!-- end of properties -->\n"
_NEED = {"needed": "yes", "access": "one of these", "optional": "no"}


def with_table(page: str, properties: Properties) -> str:
    """The page with what stands between its markers made anew. Raises PropertyError if it lacks them."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise PropertyError(f"{PAGE} lacks the marker {(begin and _END) or _BEGIN!r}")
    return before + begin + table(properties) + end + after


def table(properties: Properties) -> str:
    """One table a category, in Markdown."""
    parts = []
    for category in properties.categories:
        parts.append(f"\n### {category.name}\n\n")
        if category.description:
            parts.append(f"{category.description}\n\n")
        parts.append("| Key | Meaning | Example | Not set | Needed |\n|---|---|---|---|---|\n")
        parts += [_row(item) for item in properties.of(category)]
    return "".join([*parts, "\n"])


def _row(item: Property) -> str:
    secret = " Wiped after use." if item.secret else ""
    example = f"`{item.example}`" if item.example else ""
    cells = (
        f"`{item.key}`",
        f"**{item.label}.** {item.description}{secret}",
        example,
        item.unset,
        _NEED[item.unattended],
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def main() -> int:
    """The command."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(text, load()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
