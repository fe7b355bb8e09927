"""Octets for people."""


def size_text(octets: int) -> str:
    """In binary units with three digits or so: "64.0 GiB"."""
    size = float(max(0, octets))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
