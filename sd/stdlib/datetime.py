"""Stands in for `datetime` on the card: its C half alone, as Python 3.12 has it too.

Used by the agent, psutil, PyYAML and voluptuous. Python 3.11 first builds all of its classes in Python, then throws
them away for those in C; the memory for it is taken nevertheless. Left out: nothing but those.
"""

from _datetime import (  # noqa: F401
    MAXYEAR,
    MINYEAR,
    UTC,
    date,
    datetime,
    datetime_CAPI,
    time,
    timedelta,
    timezone,
    tzinfo,
)
