"""A kernel as old as a camera's, as far as its calls go: a program sees none that came after Linux 3.0, and no IPv6.

`python -m tests.peers.old_kernel COMMAND…` becomes the command; what that starts is on the old kernel too. Done by a
seccomp filter, which needs no rights; on x86-64 alone, since it goes by the numbers of the calls.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# setns(2) is the last call of Linux 3.0 (arch/x86/entry/syscalls/syscall_64.tbl): no getrandom, memfd_create, statx,
# pidfd_open, close_range, preadv2, copy_file_range. accept4 is older, but not in every kernel for ARM.
LAST_CALL = 308
ACCEPT4 = 288
SOCKET = 41

# The filter is a program for the kernel's packet filter (linux/filter.h, linux/seccomp.h, linux/prctl.h).
LOAD, EQUALS, ABOVE, RETURN = 0x20, 0x15, 0x25, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, FIRST_ARGUMENT = 0, 16
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
# Each with how many of the next ones to pass over where it is true, and where not.
FILTER = (
    (LOAD, 0, 0, NUMBER),
    (ABOVE, 4, 0, LAST_CALL),
    (EQUALS, 3, 0, ACCEPT4),
    (EQUALS, 0, 3, SOCKET),
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (EQUALS, 2, 1, 10),  # AF_INET6
    (RETURN, 0, 0, REFUSE | errno.ENOSYS),
    (RETURN, 0, 0, ALLOW),
    (RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT),
)


def why_not() -> str | None:
    """Give the reason why there can be none here, or None."""
    return None if platform.machine() == "x86_64" else "the filter is for x86-64"


def on_an_old_kernel(command: list[str]) -> list[str]:
    """Give the command that runs this one there."""
    return [sys.executable, "-m", __name__, *command]


def main() -> None:
    """Filter from here on, and become the command."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in FILTER))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(FILTER), ctypes.addressof(program)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
