"""`yiagent run | check | doctor -c FILE`. Exit status: 0 fine, 1 a check failed, 2 unusable configuration or usage."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from yiagent import __version__
from yiagent.lean import defer_modules, do_apart, drop_ssl

if TYPE_CHECKING:
    import argparse

    from yiagent.settings import Config

ENVIRONMENT = "YIAGENT_CONFIG"
# Before the bytes of a configuration; any other byte is an exit status.
_CONFIG: Final = b"c"


def main(arguments: list[str] | None = None) -> int:
    """The program; the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] != ["run"]:
        outcome = _do(arguments)
        return outcome if isinstance(outcome, int) else _run(outcome)
    # Before anything is imported that would import them; and what both need is imported once, before there are two.
    defer_modules()
    from yiagent.handover import unpack

    try:
        answer = do_apart(lambda: _answer(arguments))
    except OSError:
        # Where there is no room for another process, the agent is heavier than it need be.
        answer = _answer(arguments)
    if not answer.startswith(_CONFIG):
        return answer[0] if answer else 1
    return _run(unpack(answer.removeprefix(_CONFIG)))


def _answer(arguments: list[str]) -> bytes:
    """What `_do` came to, as bytes."""
    try:
        outcome = _do(arguments)
    except SystemExit as end:
        # argparse's, of --help and of what it cannot read.
        return bytes([end.code if isinstance(end.code, int) else 0])
    if isinstance(outcome, int):
        return bytes([outcome])
    from yiagent.handover import pack

    return _CONFIG + pack(outcome)


def _do(arguments: list[str]) -> int | Config:
    """What the command line asks for: an exit status, or for `run` what to run with."""
    options = _parser().parse_args(arguments)
    file: str | None = options.config or os.environ.get(ENVIRONMENT)
    if not file:
        _say(f"yiagent: which configuration? Give -c FILE, or set {ENVIRONMENT}")
        return 2
    config = _load(file)
    if config is None:
        return 2
    if options.command == "run":
        return config
    if options.command == "doctor":
        return _doctor(config, file)
    print(f"{file}: ok")  # noqa: T201
    return 0


def _load(file: str) -> Config | None:
    from pathlib import Path

    from yiagent.config import ConfigError, load_config

    try:
        return load_config(Path(file))
    except ConfigError as error:
        count = len(error.faults)
        _say(f"yiagent: {file} cannot be used; {count} {'fault' if count == 1 else 'faults'}:")
        for fault in error.faults:
            _say(f"  {fault}")
        return None


def _run(config: Config) -> int:
    from yiagent.brokerfile import chosen_broker

    if chosen_broker(config.mqtt, config.state_dir).tls is None and config.web.tls is None:
        drop_ssl()
    from yiagent.app import run

    return run(config)


def _doctor(config: Config, file: str) -> int:
    # Imported only where it is used: the agent on a camera never needs it.
    from pathlib import Path

    from yiagent.doctor import examine

    return examine(config, Path(file))


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="yiagent", description="Puts a camera live on an RTMP server, commanded over MQTT."
    )
    parser.add_argument("--version", action="version", version=f"yiagent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | check | doctor")
    for name, text in (
        ("run", "run the agent until it is told to stop"),
        ("check", "check the configuration and print every fault"),
        ("doctor", "look at ffmpeg, camera, server, broker, disk and memory, and say what to mend"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("-c", "--config", metavar="FILE", help=f"the configuration (or {ENVIRONMENT})")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
