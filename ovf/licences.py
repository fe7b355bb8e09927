"""Licences as the parts declare them, in SPDX's identifiers where the declaration maps to one."""

import re
from email.message import Message

_IDENTIFIERS = """
    0BSD AFL-2.1 AGPL-3.0-only AGPL-3.0-or-later Apache-2.0 Artistic-1.0-Perl Artistic-2.0
    BSD-2-Clause BSD-3-Clause BSD-4-Clause BSL-1.0 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0
    CC0-1.0 curl FSFAP FSFUL FSFULLR FTL GFDL-1.1-or-later GFDL-1.2-or-later GFDL-1.3-or-later
    GFDL-1.3-only GPL-1.0-or-later GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later HPND
    ICU IJG ISC LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only
    LGPL-3.0-or-later MIT MIT-0 MPL-1.1 MPL-2.0 NTP OFL-1.1 OLDAP-2.8 OpenSSL PSF-2.0 Python-2.0
    Unicode-3.0 Unlicense Vim X11 ZPL-2.1 Zlib bzip2-1.0.6 libpng-2.0
"""
SPDX = frozenset(_IDENTIFIERS.split())
"""The identifiers in use here (SPDX licence list 3.x); what is not among them is given as a name."""

_DEBIAN = {
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-1.0": "Artistic-1.0-Perl",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "expat": "MIT",
    "mit/x11": "MIT",
    "psf-2": "PSF-2.0",
    "zlib": "Zlib",
    "openldap-2.8": "OLDAP-2.8",
    "artistic-2": "Artistic-2.0",
    "bsl-1": "BSL-1.0",
    "fdl-1.2+": "GFDL-1.2-or-later",
}
_GNU = re.compile(
    r"(A|L)?GPL-?([123](?:\.[01])?)(\+|-only|-or-later)?|GFDL-?(1\.[123])(\+|-only|-or-later)?", re.I
)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])")
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "zlib/libpng License": "Zlib",
}
_NAMES = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "mit license": "MIT",
    "the mit license": "MIT",
    "isc license": "ISC",
}


def spdx(name: str) -> str:
    """A Debian or common short name as an SPDX identifier, or itself."""
    name = name.strip()
    exact = {known.lower(): known for known in SPDX}.get(name.lower())
    if exact:
        return exact
    if known := _DEBIAN.get(name.lower()) or _NAMES.get(name.lower()):
        return known
    if found := _GNU.fullmatch(name):
        later = found[3] or found[5] or "-only"
        later = "-or-later" if later == "+" else later.lower()
        if found[4]:
            return f"GFDL-{found[4]}{later}"
        family = (found[1] or "").upper()
        version = found[2] if "." in found[2] else found[2] + ".0"
        return f"{family}GPL-{version}{later}"
    return name


def from_copyright(text: str) -> tuple[str, ...]:
    """The licences in a debian/copyright: all that a machine-readable one names (copyright-format 1.0), else
    the common licences that the text points to."""
    found: set[str] = set()
    if re.match(
        r"\s*Format(?:-Specification)?:.*copyright-format|\s*Format:.*(?:dep5|dep-5)", text, re.IGNORECASE
    ):
        for line in re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE | re.IGNORECASE):
            for part in re.split(
                r"\s+(?:and/or|and|or)\s+|\s*,\s*|\s*\|\s*", line.strip(), flags=re.IGNORECASE
            ):
                # An exception goes with the licence; the licence alone is what maps.
                short = re.split(r"\s+with\s+", part, maxsplit=1, flags=re.IGNORECASE)[0].strip(" ,.()")
                if re.fullmatch(r"[A-Za-z0-9][\w.+/~-]*", short):
                    found.add(spdx(short))
    else:
        found.update(spdx(name) for name in _COMMON.findall(text))
    return tuple(sorted(found))


def from_metadata(head: Message) -> tuple[str, ...]:
    """The licence of a Python distribution (core metadata 2.4): expression, else field, else classifiers."""
    if expression := head["License-Expression"]:
        return (str(expression).strip(),)
    field = str(head["License"] or "").strip()
    if field and "\n" not in field and len(field) <= 64 and field.upper() != "UNKNOWN":
        return (spdx(field),)
    classes = (str(value) for value in head.get_all("Classifier", []))
    names = (
        value.rpartition(" :: ")[2] for value in classes if value.startswith("License :: OSI Approved :: ")
    )
    return tuple(sorted({_CLASSIFIERS.get(name, spdx(name)) for name in names}))
