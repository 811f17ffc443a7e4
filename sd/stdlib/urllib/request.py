"""Stands in for `urllib.request` on the card: the proxies that the environment names. Saves 1 MB of memory.

Used by paho, which asks for a proxy in `mqtt_proxy` (where PySocks is there, which is not on the card). Left out: every
request, and with them `http.client` and `email`.
"""

import os


def getproxies():
    """The proxies, by scheme: from `http_proxy` and so on. A name in lower case wins."""
    environment = sorted(os.environ.items(), key=lambda item: item[0].islower())
    named = {name.lower(): value for name, value in environment if name.lower().endswith("_proxy")}
    return {name.removesuffix("_proxy"): value for name, value in named.items() if value}


def proxy_bypass(host):
    """Whether `no_proxy` says that this host, with or without a port, is asked directly."""
    without = getproxies().get("no", "")
    host = host.lower()
    hosts = {host, host.partition(":")[0]}
    for name in without.lower().split(","):
        name = name.strip().lstrip(".")
        if name == "*" or (name and any(known == name or known.endswith("." + name) for known in hosts)):
            return True
    return False
