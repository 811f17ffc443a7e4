"""Does the streaming server's name resolve, does it answer, is its certificate good, and does it speak RTMP?

Nothing is ever published: the conversation ends with the RTMP handshake, before any application or key is named.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

from yiagent.certificates import system_authorities
from yiagent.doctor.findings import Findings
from yiagent.knock import ffmpeg_message, server_failure
from yiagent.network import addresses_of, connect, port_of
from yiagent.threads import in_daemon_thread
from yiagent.urls import Url

if TYPE_CHECKING:
    import ssl

ANSWER_TIMEOUT_S: Final = 4.0
_RTMP_VERSION: Final = b"\x03"
_HANDSHAKE_BYTES: Final = 1536
_NOT_RTMP: Final = "Cannot read RTMP handshake response"


class _Wrong(Exception):
    """What is wrong with the server, in the agent's words."""


async def examine_server(server: Url, origin: str, findings: Findings) -> None:
    """Look at the server that the agent would stream to; `origin` says where its URL comes from."""
    what = f"{server.masked} ({origin})"
    try:
        detail = await in_daemon_thread(lambda: _look(server))
    except _Wrong as wrong:
        findings.fail("server", f"{what}: {wrong}")
    else:
        findings.ok("server", f"{what}: {detail}")
    if server.scheme == "rtmps" and system_authorities() is None:
        findings.warn("server", "no file of trusted authorities was found for ffmpeg: install ca-certificates")


def _look(server: Url) -> str:
    """What is so, for a person. Raises `_Wrong`."""
    encrypted = server.scheme == "rtmps"
    port = port_of(server)
    try:
        addresses = addresses_of(server.host, port)
        connection = connect(addresses, port)
    except OSError as error:
        raise _Wrong(server_failure(ffmpeg_message(error), encrypted=encrypted).reason.message) from None
    with connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        began = time.monotonic()
        secured = _encrypt(connection, server.host) if encrypted else connection
        with secured:
            _shake_hands(secured)
    took_ms = round((time.monotonic() - began) * 1000)
    count = "1 address" if len(addresses) == 1 else f"{len(addresses)} addresses"
    return f"{count}, {'TLS with a good certificate, ' if encrypted else ''}RTMP answers within {took_ms} ms"


def _encrypt(connection: socket.socket, host: str) -> ssl.SSLSocket:
    try:
        import ssl
    except ImportError:
        raise _Wrong("The encrypted connection cannot be tried: this Python has no ssl.") from None
    try:
        return _trusting_context().wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        words = server_failure("certificate verify failed", encrypted=True).reason.message
        raise _Wrong(f"{words} ({error.verify_message})") from None
    except TimeoutError:
        raise _Wrong(server_failure("", encrypted=True).reason.message) from None
    except ssl.SSLError as error:
        message = "tls: IO error" if isinstance(error, ssl.SSLEOFError) else "TLS fatal alert"
        raise _Wrong(server_failure(message, encrypted=True).reason.message) from None
    except OSError:
        raise _Wrong(server_failure("tls: IO error", encrypted=True).reason.message) from None


def _trusting_context() -> ssl.SSLContext:
    """The trust that ffmpeg is given. Python's own default became stricter than ffmpeg in 3.13."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities = system_authorities()
    if authorities is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(authorities)
    except OSError:
        raise _Wrong(f"The file of trusted authorities, {authorities}, cannot be used.") from None
    return context


def _shake_hands(connection: socket.socket) -> None:
    """C0 and C1 out, S0 and S1 in: what every RTMP server answers, whatever application or key is meant."""
    try:
        connection.sendall(_RTMP_VERSION + bytes(8) + os.urandom(_HANDSHAKE_BYTES - 8))
        answer = b""
        while len(answer) < len(_RTMP_VERSION) + _HANDSHAKE_BYTES:
            received = connection.recv(4096)
            answer += received
            if not received or not answer.startswith(_RTMP_VERSION):
                raise _Wrong(server_failure(_NOT_RTMP, encrypted=False).reason.message)
    except TimeoutError:
        raise _Wrong(server_failure("", encrypted=False).reason.message) from None
    except OSError:
        raise _Wrong(server_failure(_NOT_RTMP, encrypted=False).reason.message) from None
