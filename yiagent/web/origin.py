"""Whether a request that changes something comes from this page, opened at this machine. Pure.

A site elsewhere can make its visitor's browser send requests here (CSRF), and by changing where its own name points to
can make them look like its own (DNS rebinding). Sources: the Fetch standard's `Origin`, Fetch Metadata's
`Sec-Fetch-Site`. An address is nobody's to point elsewhere; a name must be known as this machine's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

_OWN_SITES: Final = frozenset({"same-origin", "none"})
_DEFAULT_PORTS: Final = (":80", ":443")


def foreign(headers: Mapping[str, str], own_names: frozenset[str]) -> str | None:
    """Why a request is not this page's own, for the person at the browser; None for one that is.

    `headers` by lower-case name; `own_names` in lower case.
    """
    host = headers.get("host", "")
    if not is_own_host(host, own_names):
        return "this page was opened under a name that this machine does not know as its own; open it by its address"
    if headers.get("sec-fetch-site", "same-origin") not in _OWN_SITES:
        return "the request comes from another site"
    origin = headers.get("origin")
    if origin is not None and not _same(origin, host):
        return "the request comes from another site"
    return None


def is_own_host(host: str, own_names: frozenset[str]) -> bool:
    """Whether `Host` names this machine: by an address, which nobody can point elsewhere, or by a name of its own."""
    name = _without_port(host)
    if name is None:
        return False
    if name.startswith("["):
        return name.endswith("]") and _is_address(name[1:-1].partition("%")[0])
    name = name.lower().removesuffix(".")
    return _is_address(name) or name in own_names


def short_name(host: str) -> str | None:
    """The name in `Host` where it has no dot: nobody on the internet has one, so the house may be asked for it."""
    name = _without_port(host)
    return name.lower() if name is not None and "." not in name and ":" not in name else None


def own_names(hostname: str, search: tuple[str, ...]) -> frozenset[str]:
    """The names of a machine called `hostname` in the domains that it searches (resolv.conf(5))."""
    short = hostname.partition(".")[0].lower()
    names = {"localhost", hostname.lower(), short, f"{short}.local", f"{short}.localhost"}
    names |= {f"{short}.{domain.lower().strip('.')}" for domain in search}
    return frozenset(names - {""})


def _same(origin: str, host: str) -> bool:
    # The scheme is left out: a proxy in front may be the one that speaks TLS.
    _, separator, authority = origin.partition("://")
    return bool(separator) and _plain(authority) == _plain(host)


def _plain(authority: str) -> str:
    authority = authority.lower()
    return next((authority.removesuffix(port) for port in _DEFAULT_PORTS if authority.endswith(port)), authority)


def _without_port(host: str) -> str | None:
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        return f"{name}]" if bracket and (not rest or _is_port(rest)) else None
    name, colon, port = host.partition(":")
    return name if name and (not colon or _is_port(f":{port}")) else None


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
