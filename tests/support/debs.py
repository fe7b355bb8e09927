"""Packages that never were: a built .deb taken apart, changed and packed again."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

Edit = Callable[[Path], None]
"""Changes the package's tree (DEBIAN/ and the files) in place."""


def repack(deb: Path, folder: Path, version: str, *edits: Edit) -> Path:
    """`deb` as `version`, with the edits made; a file in `folder`."""
    tree = folder / f"tree-{version}"
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    change_module(tree, "postkeep/__init__.py", r'(__version__ = ")[^"]*', rf"\g<1>{version}")
    preinst = tree / "DEBIAN" / "preinst"
    preinst.write_text(re.sub(r"(?m)^VERSION=.*$", f"VERSION={version}", preinst.read_text()))
    for edit in edits:
        edit(tree)
    target = folder / f"postkeep_{version}_amd64.deb"
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", tree, target],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(tree)
    return target


def change_module(tree: Path, name: str, pattern: str, replacement: str) -> None:
    """Change the source of a module in the package's environment; its compiled form is dropped."""
    (module,) = tree.glob(f"opt/*/venv/lib/python3*/site-packages/{name}")
    text, count = re.subn(pattern, replacement, module.read_text("utf-8"), count=1)
    assert count == 1, f"{pattern} is not in {name}"
    module.write_text(text, "utf-8")
    for compiled in (module.parent / "__pycache__").glob(f"{module.stem}.*.pyc"):
        compiled.unlink()


def add_migration(sql: str) -> Edit:
    """The store gets one schema more, by `sql`."""

    def edit(tree: Path) -> None:
        change_module(
            tree,
            "postkeep/storage/migrations.py",
            r"(?m)^(MIGRATIONS: tuple\[str, \.\.\.\] = \(.*)\)$",
            rf"\g<1>, {sql!r})",
        )
        preinst = tree / "DEBIAN" / "preinst"
        text, count = re.subn(
            r"(?m)^SCHEMA=(\d+)$", lambda found: f"SCHEMA={int(found[1]) + 1}", preinst.read_text()
        )
        assert count == 1
        preinst.write_text(text)

    return edit


def break_start(tree: Path) -> None:
    """An engine that ends before it is ready."""
    change_module(
        tree,
        "postkeep/app.py",
        r"(?m)^(    async def start\(self\) -> None:\n)",
        r'\g<1>        raise RuntimeError("broken for the test")\n',
    )
