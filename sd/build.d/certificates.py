"""Writes Mozilla's certificate authorities for servers, as they stand in certdata.txt, as one PEM file.

    certificates.py CERTDATA PEM

A certificate and what it is trusted for are two objects in that file, found together by issuer and serial number.
"""

from __future__ import annotations

import base64
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

Object = dict[str, str | bytes]
Id = tuple[str | bytes, str | bytes]


def _objects(text: str) -> Iterator[Object]:
    """Each object's fields: octal ones as bytes, others as text."""
    current: Object = {}
    lines = iter(text.partition("BEGINDATA\n")[2].splitlines())
    for line in lines:
        name, _, rest = line.partition(" ")
        if not name.startswith("CKA_"):
            continue
        if name == "CKA_CLASS" and current:
            yield current
            current = {}
        kind, _, value = rest.partition(" ")
        if kind == "MULTILINE_OCTAL":
            octal = "".join(iter(lambda: next(lines), "END"))
            current[name] = bytes(int(byte, 8) for byte in re.findall(r"\\([0-7]{3})", octal))
        else:
            current[name] = value
    yield current


def _id(of: Object) -> Id:
    return of["CKA_ISSUER"], of["CKA_SERIAL_NUMBER"]


def authorities(text: str) -> list[tuple[str, bytes]]:
    """Name and DER of each that may vouch for a server."""
    objects = list(_objects(text))
    trusted = {
        _id(entry)
        for entry in objects
        if entry["CKA_CLASS"] == "CKO_NSS_TRUST" and entry["CKA_TRUST_SERVER_AUTH"] == "CKT_NSS_TRUSTED_DELEGATOR"
    }
    found = []
    for entry in objects:
        der, name = entry.get("CKA_VALUE"), entry.get("CKA_LABEL")
        if entry["CKA_CLASS"] == "CKO_CERTIFICATE" and _id(entry) in trusted:
            assert isinstance(der, bytes)
            assert isinstance(name, str)
            found.append((name.strip('"'), der))
    return sorted(found)


def _main() -> None:
    certdata, pem = map(Path, sys.argv[1:])
    found = authorities(certdata.read_text())
    if len(found) < 50:
        sys.exit(f"only {len(found)} authorities in {certdata}: is it of another form now?")
    with pem.open("w") as file:
        for _, der in found:
            body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
            file.write(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")


if __name__ == "__main__":
    _main()
