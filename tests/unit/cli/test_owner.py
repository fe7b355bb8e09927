"""Root in a folder of another user becomes that user, for good."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from postkeep.cli.owner import become_owner, foreign_owner

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = pwd.getpwnam("nobody")


def in_a_child(work: Callable[[], bool]) -> bool:
    """What `work` says in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@root
def test_root_becomes_the_owner_and_cannot_go_back(tmp_path: Path) -> None:
    data, secret = tmp_path / "data", tmp_path / "secret"
    data.mkdir()
    os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
    secret.write_text("root's")
    secret.chmod(0o600)

    def work() -> bool:
        become_owner(data)
        try:
            os.setuid(0)
        except PermissionError:
            pass
        else:
            return False
        return (
            set(os.getresuid()) == {NOBODY.pw_uid}
            and set(os.getresgid()) == {NOBODY.pw_gid}
            and 0 not in os.getgroups()
            and not os.access(secret, os.R_OK)
            and os.umask(0) == 0o077
        )

    assert foreign_owner(data) == NOBODY.pw_uid
    assert in_a_child(work)


@root
def test_root_stays_root_in_its_own_folder(tmp_path: Path) -> None:
    def work() -> bool:
        become_owner(tmp_path)
        return set(os.getresuid()) == {0}

    assert foreign_owner(tmp_path) is None
    assert foreign_owner(tmp_path / "missing") is None
    assert in_a_child(work)
