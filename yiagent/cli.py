"""`yiagent run | check | doctor -c FILE`. Exit status: 0 fine, 1 a check failed, 2 unusable configuration or usage."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from yiagent import __version__
from yiagent.lean import drop_ssl, drop_the_loader
from yiagent.settings import Config

ENVIRONMENT = "YIAGENT_CONFIG"


def main(arguments: list[str] | None = None) -> int:
    """The program; the exit status."""
    options = _parser().parse_args(arguments)
    file = options.config or os.environ.get(ENVIRONMENT)
    if not file:
        _say(f"yiagent: which configuration? Give -c FILE, or set {ENVIRONMENT}")
        return 2
    config = _load(Path(file))
    if config is None:
        return 2
    command: str = options.command
    return {"run": _run, "check": _check, "doctor": _doctor}[command](config, file)


def _load(file: Path) -> Config | None:
    from yiagent.config import ConfigError, load_config

    try:
        return load_config(file)
    except ConfigError as error:
        count = len(error.faults)
        _say(f"yiagent: {file} cannot be used; {count} {'fault' if count == 1 else 'faults'}:")
        for fault in error.faults:
            _say(f"  {fault}")
        return None


def _run(config: Config, file: str) -> int:
    # Before anything else is imported, so that what this frees is used again.
    drop_the_loader()
    from yiagent.brokerfile import chosen_broker

    if chosen_broker(config.mqtt, config.state_dir).tls is None and config.web.tls is None:
        drop_ssl()
    from yiagent.app import run

    return run(config)


def _check(config: Config, file: str) -> int:
    print(f"{file}: ok")  # noqa: T201
    return 0


def _doctor(config: Config, file: str) -> int:
    # Imported only where it is used: the agent on a camera never needs it.
    from yiagent.doctor import examine

    return examine(config, Path(file))


def _parser() -> argparse.ArgumentParser:
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
