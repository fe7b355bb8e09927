"""The software bill of materials: CycloneDX 1.5 in JSON. The same inventory gives the same octets."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ovf import machine
from ovf.inventory import Inventory, Package, PythonPackage
from ovf.licences import SPDX

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, machine.PRODUCT_URL)
_OWN = ("postkeep", "postkeep-console")
"""The packages that are this project's, each with a virtual environment of the same name."""


def render(inventory: Inventory, name: str, version: str, epoch: int) -> str:
    """The document. `epoch`: seconds since 1970, of the inputs rather than of this run."""
    root = f"{name}@{version}"
    components = [_system(inventory)]
    components += [_deb(item, inventory.system) for item in inventory.packages]
    components += [_python(item) for item in inventory.python]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "bom-ref": root,
                "type": "operating-system",
                "name": name,
                "version": version,
                "description": "Virtual appliance: Debian GNU/Linux with the mail server and its console",
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": components,
        "dependencies": _dependencies(inventory, root),
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def deb_purl(item: Package, system: str) -> str:
    """Package URL of a Debian package."""
    vendor = "postkeep" if item.name in _OWN else "debian"
    qualifiers = f"arch={item.architecture}" + (
        f"&distro=debian-{quote(system)}" if vendor == "debian" else ""
    )
    return f"pkg:deb/{vendor}/{quote(item.name, safe='')}@{quote(item.version, safe='')}?{qualifiers}"


def python_reference(item: PythonPackage) -> str:
    """Package URL with the environment as a fragment: both environments may hold the same distribution."""
    return f"{_pypi(item)}#opt/{item.environment}"


def _pypi(item: PythonPackage) -> str:
    return f"pkg:pypi/{quote(item.name, safe='')}@{quote(item.version, safe='')}"


def _system(inventory: Inventory) -> dict[str, Any]:
    version = inventory.system
    return {
        "bom-ref": f"debian@{version}",
        "type": "operating-system",
        "name": "debian",
        "version": version,
    }


def _deb(item: Package, system: str) -> dict[str, Any]:
    purl = deb_purl(item, system)
    entry: dict[str, Any] = {
        "bom-ref": purl,
        "type": "application" if item.name in _OWN else "library",
        "name": item.name,
        "version": item.version,
        "purl": purl,
        "description": item.summary,
        **_licences(item.licences),
    }
    if item.maintainer:
        entry["supplier"] = {"name": item.maintainer.partition(" <")[0]}
    if item.homepage:
        entry["externalReferences"] = [{"type": "website", "url": item.homepage}]
    entry["properties"] = [
        {"name": "postkeep:licence-file", "value": f"/usr/share/doc/{item.name}/copyright"},
        {"name": "postkeep:source", "value": f"{item.source} {item.source_version}"},
    ]
    return entry


def _python(item: PythonPackage) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "bom-ref": python_reference(item),
        "type": "library",
        "name": item.name,
        "version": item.version,
        "purl": _pypi(item),
        "description": item.summary,
        **_licences(item.licences),
    }
    if item.homepage:
        entry["externalReferences"] = [{"type": "website", "url": item.homepage}]
    entry["properties"] = [{"name": "postkeep:environment", "value": f"/opt/{item.environment}/venv"}]
    return entry


def _licences(names: tuple[str, ...]) -> dict[str, Any]:
    """CycloneDX takes one expression, or a list of licences by identifier or name."""
    if not names:
        return {}
    if (
        len(names) == 1
        and " " in names[0]
        and set(names[0].replace("(", " ").replace(")", " ").split()) <= (SPDX | {"AND", "OR", "WITH"})
    ):
        return {"licenses": [{"expression": names[0]}]}
    return {"licenses": [{"license": {"id" if name in SPDX else "name": name}} for name in names]}


def _dependencies(inventory: Inventory, root: str) -> list[dict[str, Any]]:
    purls = {item.name: deb_purl(item, inventory.system) for item in inventory.packages}
    environments: dict[str, list[str]] = {}
    for part in inventory.python:
        environments.setdefault(part.environment, []).append(python_reference(part))
    graph: dict[str, set[str]] = {root: {f"debian@{inventory.system}", *purls.values()}}
    for item in inventory.packages:
        graph[purls[item.name]] = {purls[name] for name in item.depends}
        if item.name in _OWN:
            graph[purls[item.name]].update(environments.get(item.name, ()))
    for references in environments.values():
        graph.update({reference: set() for reference in references})
    return [{"ref": ref, "dependsOn": sorted(parts)} for ref, parts in sorted(graph.items())]
