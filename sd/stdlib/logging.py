"""Stands in for `logging` on the card: messages of libraries, to one list of handlers. Saves 0.09 MB of memory.

Used by asyncio, concurrent.futures and paho, whose messages the agent has sent to its own log by `basicConfig`. Left
out: handlers of loggers' own, filters, formats, files, and where in the code a message comes from.
"""

import sys

CRITICAL = FATAL = 50
ERROR = 40
WARNING = WARN = 30
INFO = 20
DEBUG = 10
NOTSET = 0

_NAMES = {CRITICAL: "CRITICAL", ERROR: "ERROR", WARNING: "WARNING", INFO: "INFO", DEBUG: "DEBUG", NOTSET: "NOTSET"}


def getLevelName(level):
    return _NAMES.get(level, f"Level {level}")


class LogRecord:
    def __init__(self, name, level, message, arguments, exc_info):
        self.name = name
        self.levelno = level
        self.levelname = getLevelName(level)
        self.msg = message
        # As in `log("%(what)s", {"what": …})`.
        mapping = len(arguments) == 1 and isinstance(arguments[0], dict) and arguments[0]
        self.args = mapping or arguments
        self.exc_info = exc_info

    def getMessage(self):
        return str(self.msg) % self.args if self.args else str(self.msg)


class Handler:
    """Writes to the standard error stream, where `emit` is not another's."""

    def __init__(self, level=NOTSET):
        self.level = level

    def setLevel(self, level):
        self.level = level

    def handle(self, record):
        if record.levelno >= self.level:
            try:
                self.emit(record)
            except Exception as error:
                # Whoever logs something must not fail for it.
                self._write(f"a message of {record.name} could not be logged: {error!r}")

    def emit(self, record):
        self._write(record.getMessage())
        if record.exc_info is not None and record.exc_info[1] is not None:
            self._write(repr(record.exc_info[1]))

    def _write(self, text):
        if sys.stderr is not None:
            sys.stderr.write(f"{text}\n")


StreamHandler = Handler


class NullHandler(Handler):
    def emit(self, record):
        pass


class Logger:
    def __init__(self, name, level=NOTSET):
        self.name = name
        self.level = level
        self.disabled = False

    def setLevel(self, level):
        self.level = level

    def getEffectiveLevel(self):
        return self.level or root.level

    def isEnabledFor(self, level):
        return not self.disabled and level >= self.getEffectiveLevel()

    def log(self, level, message, *arguments, exc_info=None, **_more):
        if not self.isEnabledFor(level):
            return
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info and not isinstance(exc_info, tuple):
            exc_info = sys.exc_info()
        record = LogRecord(self.name, level, message, arguments, exc_info or None)
        for handler in _handlers:
            handler.handle(record)

    def debug(self, message, *arguments, **options):
        self.log(DEBUG, message, *arguments, **options)

    def info(self, message, *arguments, **options):
        self.log(INFO, message, *arguments, **options)

    def warning(self, message, *arguments, **options):
        self.log(WARNING, message, *arguments, **options)

    def error(self, message, *arguments, **options):
        self.log(ERROR, message, *arguments, **options)

    def exception(self, message, *arguments, exc_info=True, **options):
        self.log(ERROR, message, *arguments, exc_info=exc_info, **options)

    def critical(self, message, *arguments, **options):
        self.log(CRITICAL, message, *arguments, **options)


root = Logger("root", WARNING)
_loggers = {}
# The one that is there before any is set: warnings and worse are seen.
_handlers = [Handler(WARNING)]


def getLogger(name=None):
    return _loggers.setdefault(name, Logger(name)) if name else root


def basicConfig(*, level=None, handlers=None, force=False, **_format):
    """Have all messages sent to these handlers; as the real one, only the first time, or with `force`."""
    global _handlers
    if force or not getattr(basicConfig, "done", False):
        _handlers = list(handlers) if handlers is not None else [Handler()]
        basicConfig.done = True
        if level is not None:
            root.setLevel(level)
