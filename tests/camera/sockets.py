"""Sockets of the file system whose paths may be longer than such a socket's name can be."""

import os
import socket
from pathlib import Path


def connect(path: Path, timeout_s: float) -> socket.socket:
    """Connect to a listening socket; OSError if there is none."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(timeout_s)
        # About a hundred characters are allowed, and folders of tests have more.
        client.connect(f"/proc/self/fd/{folder}/{path.name}")
    except BaseException:
        client.close()
        raise
    finally:
        os.close(folder)
    return client
