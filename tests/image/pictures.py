"""python -m tests.image.pictures: the screens that the last `make test-image` kept, into docs/admin/images."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build/evidence/console"
IMAGES = ROOT / "docs/admin/images"
DOCUMENT = ROOT / "docs/admin/console.md"
TITLES = {
    "language": "Language",
    "start-fresh": "Start screen before the set-up",
    "start": "Start screen",
    "wizard-1": "First start, question 1: root's password",
    "wizard-2": "First start, question 2: host name",
    "wizard-3": "First start, question 3: e-mail domain",
    "wizard-4": "First start, question 4: administrator",
    "wizard-5": "First start, question 5: the administrator's password",
    "wizard-6": "First start, question 6: data store",
    "wizard-summary": "First start, summary",
    "wizard-finished": "The server is set up",
    "unlock": "Unlock",
    "unlock-wrong": "A wrong password of root",
    "menu": "Menu",
    "network": "Network: adapters",
    "network-static": "Network: a static address",
    "network-refused": "Network: refused, with the reason",
    "network-countdown": "Network: keep or undo",
    "network-lost": "Network: the gateway does not answer",
    "network-expired": "Network: taken back by itself",
    "hostname": "Host name",
    "time": "Time",
    "time-zone": "Time zone",
    "ssh": "SSH",
    "remote": "Remote administration",
    "password": "Password of root",
    "engine": "Mail server",
    "disks": "Disks",
    "logs": "Logs",
    "nettest": "Network test",
    "nettest-done": "Network test: the answer",
    "bundle": "Support bundle",
    "keyboard": "Keyboard layout",
    "restart": "Restart",
    "shutdown": "Shut down",
    "reset": "Factory reset",
    "terminal": "An ordinary terminal (Alt+F2)",
}
"""File name without its end: what the screen is."""
_SECTION = re.compile(r"\n## The screens in pictures\n.*?(?=\n## |\Z)", re.DOTALL)


def section(names: list[str]) -> str:
    """Of the document: a list of links."""
    links = "".join(f"- [{TITLES[name]}](images/{name}.png)\n" for name in names)
    return f"\n## The screens in pictures\n\nTaken from the appliance's screen in a virtual machine by its tests.\n\n{links}"


def main() -> int:
    """The command."""
    names = [name for name in TITLES if (KEPT / f"{name}.png").exists()]
    if missing := sorted(set(TITLES) - set(names)):
        print(f"pictures: {KEPT} lacks {', '.join(missing)}: run make test-image", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    for name in names:
        (IMAGES / f"{name}.png").write_bytes((KEPT / f"{name}.png").read_bytes())
    text = _SECTION.sub("", DOCUMENT.read_text(encoding="utf-8")).rstrip("\n") + "\n"
    DOCUMENT.write_text(text + section(names), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
