"""Independent tools run on the outputs: virt-v2v's OVA parser, govmomi's vCenter simulator, libvirt's VMX
parser, qemu-img and sha256sum. All are Debian's (.ci/apt image)."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ovf import machine
from ovf.properties import Properties

_VCENTER = Path(__file__).with_name("vcenter") / "main.go"
_GOPATH = "/usr/share/gocode"


def _run(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[int, str, str]:
    """Exit status, standard output, standard error; a tool that is missing is a failure too."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=300,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        )
    except FileNotFoundError:
        return 127, "", f"{command[0]} is not installed: .ci/apt image"
    except subprocess.TimeoutExpired:
        return 124, "", f"{command[0]} did not end within 300 s"
    return done.returncode, done.stdout, done.stderr


def virt_v2v(ova: Path) -> list[str]:
    """Reads the OVA as a machine to be converted: XML, references, manifest, hardware."""
    status, out, errors = _run("virt-v2v", "-i", "ova", ova, "-o", "null", "--print-source")
    if status:
        return [f"virt-v2v: {line}" for line in errors.strip().splitlines()[-3:]]
    wanted = {
        r"source name: +" + re.escape(machine.PRODUCT): "the name",
        rf"memory: +{machine.DEFAULT.memory * machine.MIB} ": "the memory",
        rf"nr vCPUs: +{machine.DEFAULT.cpus}\b": "the CPUs",
        r"firmware: +bios": "the firmware",
        rf'"{re.escape(machine.NETWORK)}" \[vmxnet3\]': "the adapter vmxnet3 on its network",
    }
    found = [
        f"virt-v2v does not see {what}" for pattern, what in wanted.items() if not re.search(pattern, out)
    ]
    disks = re.findall(r"^\s+\d+ \[scsi\]", out, re.MULTILINE)
    if len(disks) != len(machine.DISKS):
        found.append(f"virt-v2v sees {len(disks)} SCSI disks, not {len(machine.DISKS)}")
    return found


def build_vcenter(tools: Path) -> Path:
    """The simulator's importer, built once into the folder `tools`. Raises OSError if that fails."""
    binary = tools / "vcenter-import"
    if binary.is_file() and binary.stat().st_mtime >= _VCENTER.stat().st_mtime:
        return binary
    tools.mkdir(parents=True, exist_ok=True)
    cache = os.environ.get("GOCACHE") or str(tools.resolve() / "go-cache")
    env = {"GO111MODULE": "off", "GOPATH": _GOPATH, "GOCACHE": cache, "CGO_ENABLED": "0", "GOFLAGS": "-p=2"}
    status, _, errors = _run("go", "build", "-o", binary.resolve(), _VCENTER, env=env)
    if status:
        raise OSError(f"go cannot build the vCenter simulator: {errors.strip()[-1000:]}")
    return binary


def vcenter(descriptor: Path, properties: Properties, tools: Path) -> list[str]:
    """Imports the OVF package into a simulated vCenter, in every size; compares what it then has."""
    binary = build_vcenter(tools)
    status, out, errors = _run(binary, descriptor, *(size.id for size in machine.DEPLOYMENTS))
    if status:
        return [f"vCenter simulator: {errors.strip()[-500:]}"]
    found = []
    for size, got in zip(machine.DEPLOYMENTS, json.loads(out), strict=True):
        found += [
            f"vCenter simulator, {size.id}: {text}" for text in _imported(size, got, properties, descriptor)
        ]
    return found


def _imported(
    size: machine.Deployment, got: dict[str, object], properties: Properties, path: Path
) -> list[str]:
    if got["errors"]:
        return [str(error) for error in got["errors"]]  # type: ignore[attr-defined]
    files = [
        {"path": name, "size": path.with_name(name).stat().st_size}
        for name in (f"{path.stem}-{disk.id}.vmdk" for disk in machine.DISKS)
    ]
    keys = [item.key for item in properties.properties]
    wanted: dict[str, object] = {
        "guest": machine.OVF_GUEST,
        "version": f"vmx-{machine.HARDWARE}",
        "cpus": size.cpus,
        "memory": size.memory,
        "disks": [disk.capacity for disk in machine.DISKS],
        "networks": [machine.NETWORK],
        "files": files,
        "uploaded": files,
        "keys": keys,
        "extra": [f"{key}=value of {key}" for key in keys],
    }
    found = [f"{name} is {got[name]}, not {value}" for name, value in wanted.items() if got[name] != value]
    devices = got["devices"]
    assert isinstance(devices, list)
    for kind, count in (("ParaVirtualSCSIController", 1), ("VirtualVmxnet3", 1), ("VirtualDisk", 2)):
        if devices.count(kind) != count:
            found.append(f"{devices.count(kind)} devices of the type {kind}, not {count}")
    unwanted = {"VirtualCdrom", "VirtualFloppy", "VirtualAHCIController", "VirtualLsiLogicController"}
    found += [f"the device {kind} is not wanted" for kind in sorted(unwanted & set(devices))]
    if not isinstance(got["eula"], int) or got["eula"] < 10_000:
        found.append("the licence has not arrived")
    return found


def libvirt(vmx: Path) -> list[str]:
    """libvirt's VMX parser turns the file into a domain; its driver wants VMware's programs on PATH."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vmrun", "vmplayer"):
            program = Path(folder) / name
            program.write_text('#!/bin/sh\necho "VMware Player 17.5.0 build-22583795"\n')
            program.chmod(0o755)
        status, out, errors = _run(
            "virsh",
            "-c",
            "vmwareplayer:///session",
            "domxml-from-native",
            "vmware-vmx",
            vmx,
            env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": folder, "XDG_RUNTIME_DIR": folder},
        )
    if status:
        return [f"libvirt: {errors.strip()[-500:]}"]
    wanted = {
        rf"<vcpu[^>]*>{machine.DEFAULT.cpus}</vcpu>": "the CPUs",
        rf"<memory unit='KiB'>{machine.DEFAULT.memory * 1024}</memory>": "the memory",
        r"model='vmpvscsi'": "the paravirtual SCSI controller",
        r"<model type='vmxnet3'/>": "the adapter vmxnet3",
        r"<name>Postkeep": "the name",
    }
    found = [
        f"libvirt does not see {what}" for pattern, what in wanted.items() if not re.search(pattern, out)
    ]
    disks = re.findall(r"<disk type='file' device='disk'>", out)
    if len(disks) != len(machine.DISKS):
        found.append(f"libvirt sees {len(disks)} disks, not {len(machine.DISKS)}")
    return found


def qemu_img(vmdk: Path, capacity: int) -> list[str]:
    """qemu-img reads the whole map of the disk and its size."""
    status, out, errors = _run("qemu-img", "check", vmdk)
    if status or "No errors" not in out:
        return [f"qemu-img check {vmdk.name}: {(errors or out).strip()[-500:]}"]
    status, out, errors = _run("qemu-img", "info", "--output=json", vmdk)
    size = json.loads(out)["virtual-size"] if status == 0 else None
    return [] if size == capacity else [f"qemu-img sees {size} octets in {vmdk.name}, not {capacity}"]


def sha256sum(manifest: Path) -> list[str]:
    """coreutils reads "SHA256(name)= digest" through one rewriting to its own form."""
    lines = [
        f"{found[2]}  {found[1]}\n"
        for found in re.finditer(r"^SHA256\((.+)\)= ([0-9a-f]{64})$", manifest.read_text(), re.MULTILINE)
    ]
    if not lines:
        return [f"{manifest.name} lists nothing"]
    with tempfile.NamedTemporaryFile("w", suffix=".sha256") as sums:
        sums.writelines(lines)
        sums.flush()
        status, out, errors = _run(
            "sha256sum", "--check", "--strict", "--quiet", sums.name, cwd=manifest.parent
        )
    return [] if status == 0 else [f"sha256sum: {line}" for line in (out + errors).strip().splitlines()]
