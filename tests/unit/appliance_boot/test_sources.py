"""The three sources over stand-ins of the host, and that no secret stays in them."""

import os
import stat
from pathlib import Path

import pytest
from postkeep_appliance.guestinfo.cdrom import BadMedium, EnvironmentCd
from postkeep_appliance.guestinfo.declarations import load
from postkeep_appliance.guestinfo.properties import Said
from postkeep_appliance.guestinfo.rpctool import Output, RpcRefused, RpcTool, RpcUnavailable, run
from postkeep_appliance.guestinfo.sources import OvfCd, OvfVariable, PlainVariables, read_all, wipe_all
from postkeep_appliance.guestinfo.values import Reader

from tests.support.vmware import NOT_VMWARE, NOT_VMWARE_OPEN, FakeRpcTool, full, ovf_environment

DECLARATIONS = load()
READER = Reader({"Etc/UTC"})
OVF = "guestinfo.ovfEnv"
SECRETS = {"root_password": "geheim-root", "administrator_password": "geheim-admin"}


class FakeCd:
    """What mount and umount do: the folder gets a file while mounted. `ejectable` as the drive behaves."""

    def __init__(self, tmp_path: Path, document: bytes | None, *, mountable: bool = True) -> None:
        self.device = tmp_path / "OVF ENV"
        self.runtime = tmp_path / "run"
        self.runtime.mkdir()
        self.document = document
        self.mountable = mountable
        self.commands: list[list[str]] = []
        self.modes: list[int] = []
        if document is not None:
            self.device.write_bytes(b"")
        self.cd = EnvironmentCd(self._run, device=self.device, runtime=self.runtime)

    def _run(self, command: list[str]) -> None:
        self.commands.append(command)
        folder = Path(command[-1])
        if command[0] == "mount":
            self.modes.append(stat.S_IMODE(folder.stat().st_mode))
            if not self.mountable:
                raise OSError("wrong fs type")
            if self.document is not None:
                self.make(folder / "ovf-env.xml")
        else:
            (folder / "ovf-env.xml").unlink(missing_ok=True)

    def make(self, path: Path) -> None:
        assert self.document is not None
        path.write_bytes(self.document)


def read(tool: FakeRpcTool, cd: FakeCd | None = None) -> tuple[Said, tuple[str, ...], list[str]]:
    lines: list[str] = []
    rpc = RpcTool(tool)
    sources = [OvfVariable(rpc), *([OvfCd(cd.cd)] if cd else []), PlainVariables(rpc, DECLARATIONS)]
    said, trouble = read_all(sources, DECLARATIONS, READER, lines.append)
    return said, trouble, lines


def wipe(tool: FakeRpcTool, cd: FakeCd | None = None) -> tuple[str, ...]:
    rpc = RpcTool(tool)
    sources = [OvfVariable(rpc), *([OvfCd(cd.cd)] if cd else []), PlainVariables(rpc, DECLARATIONS)]
    return wipe_all(sources, DECLARATIONS)


def test_ovf_environment_then_cd_then_plain_variables(tmp_path: Path) -> None:
    tool = FakeRpcTool(
        {
            OVF: ovf_environment({"hostname": "ovf.example.com", "domain": "null", "root_password": ""}),
            full("hostname"): b"plain.example.com",
            full("domain"): b"plain.example.com",
            full("administrator"): b"plain",
        }
    )
    cd = FakeCd(tmp_path, ovf_environment({"hostname": "cd.example.com", "administrator": "disc"}))
    said, trouble, lines = read(tool, cd)
    assert (said.properties.hostname, said.properties.administrator) == ("ovf.example.com", "disc")
    assert said.properties.domain == "plain.example.com"
    assert trouble == ()
    assert lines == [
        "OVF environment sets hostname",
        "CD “OVF ENV” sets administrator",
        "guestinfo variables sets domain",
    ]


def test_progress_names_properties_but_holds_no_value() -> None:
    tool = FakeRpcTool({OVF: ovf_environment(SECRETS), full("domain"): b"example.com"})
    said, trouble, lines = read(tool)
    assert said.properties.root_password == "geheim-root"
    assert "geheim" not in repr(said) + repr(trouble) + repr(lines)
    assert not any("geheim" in command for command in tool.commands)


@pytest.mark.parametrize("answer", [NOT_VMWARE, NOT_VMWARE_OPEN])
def test_not_on_vmware(answer: Output) -> None:
    said, trouble, _ = read(FakeRpcTool(trouble=lambda words: answer))
    assert (said, trouble) == (Said(), ())


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file"), TimeoutError("late"), PermissionError(13, "x")]
)
def test_no_tool(error: OSError) -> None:
    def broken(words: str) -> Output | None:
        raise error

    said, trouble, _ = read(FakeRpcTool(trouble=broken))
    assert (said, trouble) == (Said(), ())
    assert wipe(FakeRpcTool(trouble=broken)) == ()


def test_a_tool_that_is_killed() -> None:
    with pytest.raises(RpcUnavailable):
        RpcTool(FakeRpcTool(trouble=lambda words: Output(-11, b"", b""))).get("guestinfo.x")


def test_a_host_that_refuses() -> None:
    said, trouble, _ = read(FakeRpcTool(trouble=lambda words: Output(1, b"", b"Permission denied\n")))
    assert said == Said()
    assert len(trouble) == 2
    assert all("Permission denied" in one for one in trouble)


def test_broken_environment_is_told_and_the_other_sources_count() -> None:
    broken = ovf_environment(SECRETS).replace(b"</Environment>", b"")
    said, trouble, _ = read(FakeRpcTool({OVF: broken, full("domain"): b"example.com"}))
    assert said.properties.domain == "example.com"
    assert len(trouble) == 1
    assert trouble[0].startswith("OVF environment: the document is not well-formed XML")
    assert "geheim" not in trouble[0]


@pytest.mark.parametrize("word", [b"null", b"", b" ", b"\xff\xfe"])
def test_variables_that_say_nothing(word: bytes) -> None:
    said, _, _ = read(FakeRpcTool({full("domain"): word, OVF: b" "}))
    assert said.properties.domain is None


# --- wiping -------------------------------------------------------------------------------------------


def test_wiped_everywhere_and_never_in_an_argument(tmp_path: Path) -> None:
    tool = FakeRpcTool({OVF: ovf_environment(SECRETS | {"hostname": "a.example.com"})})
    tool.values |= {full(name): value.encode() for name, value in SECRETS.items()}
    tool.values[full("domain")] = b"example.com"
    assert wipe(tool) == ()
    assert b"geheim" not in b"".join(tool.values.values())
    assert not any("geheim" in command for command in tool.commands)
    said, trouble, _ = read(tool)
    assert trouble == ()
    assert said.properties.hostname == "a.example.com"  # the rest is still to be seen
    assert said.properties.domain == "example.com"
    assert said.properties.root_password is None
    assert said.rejected == ()
    assert full("root_password") in tool.values
    assert tool.values[full("root_password")].strip() == b""


def test_nothing_is_set_where_there_is_no_secret() -> None:
    tool = FakeRpcTool({OVF: ovf_environment({"hostname": "a.example.com"})})
    assert wipe(tool) == ()
    assert not any(command.startswith("info-set") for command in tool.commands)


def test_a_broken_environment_is_emptied_for_it_may_hold_secrets() -> None:
    tool = FakeRpcTool({OVF: ovf_environment(SECRETS).replace(b"</Environment>", b"")})
    assert wipe(tool) == ()
    assert b"geheim" not in tool.values[OVF]


def test_an_environment_too_long_to_set_is_emptied() -> None:
    tool = FakeRpcTool({OVF: ovf_environment(SECRETS | {"other.blob": "x" * (100 << 10)})})
    assert wipe(tool) == ()
    assert b"geheim" not in tool.values[OVF]


def test_a_host_that_does_not_let_us_set_is_told_to_the_administrator() -> None:
    def read_only(words: str) -> Output | None:
        return Output(1, b"", b"Permission denied\n") if words.startswith("info-set") else None

    tool = FakeRpcTool({OVF: ovf_environment(SECRETS), full("root_password"): b"geheim-root"}, read_only)
    assert wipe(tool) == (
        "remove the passwords from the virtual machine's vApp options",
        f"remove {full('root_password')} from the virtual machine's parameters",
    )


def test_a_host_that_only_says_that_it_set_is_noticed() -> None:
    def forgetful(words: str) -> Output | None:
        return Output(0, b"\n", b"") if words.startswith("info-set") else None

    assert wipe(FakeRpcTool({OVF: ovf_environment(SECRETS)}, forgetful)) == (
        "remove the passwords from the virtual machine's vApp options",
    )


class Drive:
    """ioctl of a drive whose tray udev has locked (CDROM_LOCKDOOR, CDROMEJECT of linux/cdrom.h)."""

    def __init__(self, opens: bool = True) -> None:
        self.locked, self.out, self._opens = True, False, opens

    def __call__(self, descriptor: int, request: int, argument: int = 0) -> int:
        if request == 0x5329:
            self.locked = bool(argument)
            return 0
        assert request == 0x5309
        if self.locked or not self._opens:
            return 2  # CHECK CONDITION, as the kernel passes it on
        self.out = True
        return 0


def test_a_locked_tray_is_unlocked_and_ejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive()
    monkeypatch.setattr("postkeep_appliance.guestinfo.cdrom.fcntl.ioctl", drive)
    (tmp_path / "sr0").write_bytes(b"")
    assert EnvironmentCd(lambda command: None, device=tmp_path / "sr0", runtime=tmp_path).eject()
    assert drive.out


def test_a_drive_that_keeps_its_disc_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postkeep_appliance.guestinfo.cdrom.fcntl.ioctl", Drive(opens=False))
    (tmp_path / "sr0").write_bytes(b"")
    assert not EnvironmentCd(lambda command: None, device=tmp_path / "sr0", runtime=tmp_path).eject()


def test_a_disc_with_secrets_that_cannot_be_ejected(tmp_path: Path) -> None:
    cd = FakeCd(tmp_path, ovf_environment(SECRETS))  # a file in place of a drive: the ioctl fails
    assert wipe(FakeRpcTool(), cd) == ("disconnect the virtual CD drive: its disc holds passwords",)


def test_a_disc_without_secrets_stays(tmp_path: Path) -> None:
    cd = FakeCd(tmp_path, ovf_environment({"hostname": "a.example.com"}))
    assert wipe(FakeRpcTool(), cd) == ()


# --- CD -----------------------------------------------------------------------------------------------


def test_a_cd_is_mounted_for_root_alone_and_unmounted(tmp_path: Path) -> None:
    cd = FakeCd(tmp_path, b"<x/>")
    assert cd.cd.read() == b"<x/>"
    mount, umount = cd.commands
    assert mount[:5] == ["mount", "-t", "iso9660", "-o", "ro,nosuid,nodev,noexec"]
    assert mount[5] == str(cd.device)
    assert umount == ["umount", mount[6]]
    assert cd.modes == [0o700]
    assert list(cd.runtime.iterdir()) == []  # nothing of it stays


def test_no_cd(tmp_path: Path) -> None:
    cd = FakeCd(tmp_path, None)
    assert cd.cd.read() is None
    assert cd.commands == []


def test_a_cd_that_cannot_be_mounted(tmp_path: Path) -> None:
    cd = FakeCd(tmp_path, b"", mountable=False)
    with pytest.raises(BadMedium, match="wrong fs type"):
        cd.cd.read()
    assert list(cd.runtime.iterdir()) == []
    said, trouble, _ = read(
        FakeRpcTool({full("domain"): b"example.com"}), FakeCd(_sub(tmp_path), b"", mountable=False)
    )
    assert said.properties.domain == "example.com"
    assert len(trouble) == 1


def _sub(path: Path) -> Path:
    inner = path / "inner"
    inner.mkdir()
    return inner


def test_a_cd_without_the_file(tmp_path: Path) -> None:
    cd = FakeCd(tmp_path, b"")
    cd.make = lambda path: None  # type: ignore[method-assign]
    with pytest.raises(BadMedium, match=r"has no ovf-env\.xml"):
        cd.cd.read()


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_file_that_is_none(tmp_path: Path, kind: str) -> None:
    cd = FakeCd(tmp_path, b"")
    secret = tmp_path / "secret"
    secret.write_text("<x/>")
    makers = {"link": lambda path: path.symlink_to(secret), "fifo": os.mkfifo, "folder": os.mkdir}
    cd.make = makers[kind]  # type: ignore[method-assign]
    cd._run = lambda command: (
        makers[kind](Path(command[-1]) / "ovf-env.xml") if command[0] == "mount" else None
    )  # type: ignore[method-assign]
    with pytest.raises(BadMedium):
        EnvironmentCd(cd._run, device=cd.device, runtime=cd.runtime).read()


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    cd = FakeCd(tmp_path, b"x" * (1 << 20))
    found = cd.cd.read()
    assert found is not None
    assert len(found) == (256 << 10) + 1


# --- the program itself -------------------------------------------------------------------------------


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_program_as_open_vm_tools_ships_it(tmp_path: Path) -> None:
    tool = script(
        tmp_path / "vmware-rpctool",
        'case "$1" in *.known) echo "a value" ;; *) echo "No value found" >&2; exit 1 ;; esac',
    )
    rpc = RpcTool(run, tool)
    assert rpc.get("guestinfo.known") == b"a value"
    assert rpc.get("guestinfo.unknown") is None


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RpcUnavailable):
        RpcTool(run, str(tmp_path / "none")).get("guestinfo.x")


def test_a_value_of_several_lines_loses_only_the_tool_s_line_end(tmp_path: Path) -> None:
    tool = script(tmp_path / "vmware-rpctool", "printf 'a\\nb\\n\\n'")
    assert RpcTool(run, tool).get("guestinfo.x") == b"a\nb\n"


@pytest.mark.parametrize("value", ["x" * (61 << 10), "a\0b"])
def test_what_cannot_be_set(value: str) -> None:
    tool = FakeRpcTool()
    with pytest.raises(ValueError, match="at most"):
        RpcTool(tool).put("guestinfo.x", value)
    assert tool.commands == []


def test_a_refusal_to_set() -> None:
    with pytest.raises(RpcRefused, match="Permission denied"):
        RpcTool(FakeRpcTool(trouble=lambda words: Output(1, b"", b"Permission denied\n"))).put(
            "guestinfo.x", "y"
        )
