"""Certificates for the tests' servers and clients, made by the openssl command in a temporary folder."""

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.peers.process import PeerError, find_program

THIS_HOST = "DNS:localhost,IP:127.0.0.1,IP:::1"
VALID_FROM = "20200101000000Z"
VALID_UNTIL = "20991231235959Z"
EXPIRED_SINCE = "20200201000000Z"
OPENSSL_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its unencrypted key, both PEM."""

    cert_file: Path
    key_file: Path


class Authority:
    """A certificate authority of our own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._configuration = self._folder / "openssl.cnf"
        self._configuration.write_text(self._configuration_text())
        (self._folder / "index.txt").touch()
        self._pair = self._issue("ca", name, ["-selfsign", "-extensions", "authority"])

    @property
    def ca_file(self) -> Path:
        """The authority's own certificate."""
        return self._pair.cert_file

    def server(self, file_name: str, names: str, *, until: str = VALID_UNTIL) -> KeyPair:
        """Issue a server's certificate for subject alternative names such as `DNS:localhost,IP:127.0.0.1`."""
        extensions = self._folder / f"{file_name}.ext"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
        return self._issue(file_name, file_name, ["-extfile", f"{extensions}"], until=until)

    def client(self, common_name: str) -> KeyPair:
        """Issue a client's certificate."""
        extensions = self._folder / f"{common_name}.ext"
        extensions.write_text("extendedKeyUsage=clientAuth\n")
        return self._issue(common_name, common_name, ["-extfile", f"{extensions}"])

    def _issue(self, file_name: str, common_name: str, options: list[str], *, until: str = VALID_UNTIL) -> KeyPair:
        folder = self._folder
        pair = KeyPair(folder / f"{file_name}.crt", folder / f"{file_name}.key")
        request = folder / f"{file_name}.csr"
        self._openssl(
            *("req", "-new", "-config", f"{self._configuration}", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={common_name}"),
            *("-keyout", f"{pair.key_file}", "-out", f"{request}"),
        )
        pair.key_file.chmod(0o600)
        # `openssl ca`, since only it could set dates in the past before OpenSSL 3.4.
        self._openssl(
            *("ca", "-batch", "-notext", "-config", f"{self._configuration}"),
            *("-keyfile", f"{folder / 'ca.key'}", "-startdate", VALID_FROM, "-enddate", until),
            *("-in", f"{request}", "-out", f"{pair.cert_file}", *options),
        )
        return pair

    def _openssl(self, *arguments: str) -> None:
        result = subprocess.run(
            [find_program("openssl"), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=OPENSSL_TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0:
            raise PeerError(f"openssl {' '.join(arguments)}\n{result.stderr}")

    def _configuration_text(self) -> str:
        return f"""
[req]
distinguished_name = subject
[subject]
[ca]
default_ca = this
[this]
dir = {self._folder}
database = {self._folder}/index.txt
new_certs_dir = {self._folder}
certificate = {self._folder}/ca.crt
default_md = sha256
policy = anything
unique_subject = no
rand_serial = yes
[anything]
commonName = supplied
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
"""


class Certificates:
    """The certificates that tests ask for, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def ca_file(self) -> Path:
        """The authority that signs all but the strangers."""
        return self._authority.ca_file

    @property
    def stranger_ca_file(self) -> Path:
        """An authority that has signed nothing but the strangers."""
        return self._stranger_authority.ca_file

    @cached_property
    def server(self) -> KeyPair:
        """A server's: localhost, 127.0.0.1 and ::1."""
        return self._authority.server("server", THIS_HOST)

    @cached_property
    def other_host(self) -> KeyPair:
        """A server's, for another host."""
        return self._authority.server("other-host", "DNS:elsewhere.example")

    @cached_property
    def expired(self) -> KeyPair:
        """A server's, right but for its date."""
        return self._authority.server("expired", THIS_HOST, until=EXPIRED_SINCE)

    @cached_property
    def stranger(self) -> KeyPair:
        """A server's, right but for its authority."""
        return self._stranger_authority.server("stranger", THIS_HOST)

    @cached_property
    def client(self) -> KeyPair:
        """A client's, with the common name `client`."""
        return self._authority.client("client")

    @cached_property
    def stranger_client(self) -> KeyPair:
        """A client's, from the other authority."""
        return self._stranger_authority.client("stranger-client")

    @cached_property
    def _authority(self) -> Authority:
        return Authority(self._folder, "authority")

    @cached_property
    def _stranger_authority(self) -> Authority:
        return Authority(self._folder, "stranger-authority")
