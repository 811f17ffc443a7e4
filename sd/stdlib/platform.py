"""Stands in for `platform` on the card: which system and which Python this is. Saves 0.06 MB.

Used by the agent and paho. Left out: everything that asks files and programs, and other systems.
"""

import os
import sys


def system():
    return os.uname().sysname


def node():
    return os.uname().nodename


def release():
    return os.uname().release


def machine():
    return os.uname().machine


def python_version():
    return sys.version.partition(" ")[0]


def python_implementation():
    return "CPython"
