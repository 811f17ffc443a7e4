"""Where this machine keeps the certificate authorities it trusts; without `ssl`, which a camera need not load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Debian and Alpine, Fedora and RHEL, openSUSE, BSDs; SSL_CERT_FILE is OpenSSL's own way to name another.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_authorities() -> str | None:
    """The file with the trusted authorities; None where none is found."""
    named = os.environ.get("SSL_CERT_FILE")
    if named:
        return named
    return next((bundle for bundle in _BUNDLES if Path(bundle).is_file()), None)
