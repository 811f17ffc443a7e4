"""Stands in for `locale` on the card, which knows no other than C with UTF-8. Saves 0.1 MB of memory.

Used by subprocess and calendar, which import it for what they are not asked here. Left out: every locale, and all forms
of numbers and dates.
"""

LC_CTYPE, LC_NUMERIC, LC_TIME, LC_COLLATE, LC_MONETARY, LC_MESSAGES, LC_ALL = range(7)


class Error(Exception):
    pass


def setlocale(_category, locale=None):
    if locale not in (None, "", "C", "C.UTF-8", "POSIX"):
        raise Error("unsupported locale setting")
    return "C.UTF-8"


def getlocale(_category=LC_CTYPE):
    return "en_US", "UTF-8"


def normalize(name):
    return name


def getencoding():
    return "utf-8"


def getpreferredencoding(_do_setlocale=True):
    return "utf-8"
