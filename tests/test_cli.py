"""The command line as others script against it: what it takes, its exit status, and where it says what."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.harness import WAIT_TIMEOUT_S, AgentProcess
from tests.peers.camera import REPOSITORY
from yiagent import __version__

GOOD = "source: {sd: 'rtsp://127.0.0.1/ch0_1.h264'}\nmqtt: {host: 127.0.0.1}\n"
# Each line has a fault of its own; none of the values may be repeated, for any may be a secret in the wrong place.
BAD = """\
device: {id: front door}
source: {sdd: 'rtsp://made-up-secret@127.0.0.1/'}
mqtt: {host: 127.0.0.1, port: made-up-secret, passwort: made-up-secret}
stream: {audio: made-up-secret, autostart: maybe}
telemetry: {interval_s: -1}
log: {level: inf}
ffmpg: ffmpeg
"""
PLACES_OF_BAD = {
    *("line 1: device.id", "line 2: source.sdd", "line 3: mqtt.port", "line 3: mqtt.passwort", "line 4: stream.audio"),
    *("line 4: stream.autostart", "line 5: telemetry.interval_s", "line 6: log.level", "line 7: ffmpg"),
}


def yiagent(*arguments: str, config: Path | None = None, program: list[str] | None = None) -> tuple[int, str, str]:
    """Run it to its end; exit status, standard output, standard error. `config` goes into YIAGENT_CONFIG."""
    environment = {name: value for name, value in os.environ.items() if name != "YIAGENT_CONFIG"}
    if config is not None:
        environment["YIAGENT_CONFIG"] = f"{config}"
    ran = subprocess.run(
        [*(program or [sys.executable, "-m", "yiagent"]), *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT_S,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A configuration without a fault."""
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A configuration with many faults."""
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    return file


def test_check_of_a_good_file(good: Path) -> None:
    """Status 0, one line on standard output, nothing on standard error."""
    assert yiagent("check", "-c", f"{good}") == (0, f"{good}: ok\n", "")
    assert yiagent("check", "--config", f"{good}") == (0, f"{good}: ok\n", "")


def test_check_tells_every_fault_at_once(bad: Path) -> None:
    """Status 2 and, on standard error, each fault with its line and path and a hint, but no value from the file."""
    status, out, err = yiagent("check", "-c", f"{bad}")
    assert (status, out) == (2, "")
    first, *faults = err.splitlines()
    assert first == f"yiagent: {bad} cannot be used; {len(faults)} faults:"
    places = {": ".join(fault.strip().split(": ")[:2]) for fault in faults}
    assert places >= PLACES_OF_BAD
    for hint in ("did you mean sd?", "did you mean password?", "did you mean info?", "did you mean ffmpeg?"):
        assert hint in err
    assert "made-up-secret" not in err
    assert "front door" not in err


def test_run_refuses_a_bad_file(bad: Path, tmp_path: Path) -> None:
    """`run` says the same as `check`, and starts nothing: no state folder, no lock."""
    bad.write_text(BAD + f"state_dir: {tmp_path / 'state'}\n")
    assert yiagent("run", "-c", f"{bad}") == yiagent("check", "-c", f"{bad}")
    assert yiagent("run", "-c", f"{bad}")[0] == 2
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", ["run", "check", "doctor"])
def test_a_file_that_cannot_be_read(tmp_path: Path, command: str) -> None:
    """A missing file, a folder, no YAML and no text are each told in a sentence, with status 2."""
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\x00\xff\xfe")
    tabs = tmp_path / "tabs.yaml"
    tabs.write_text("source:\n\tsd: made-up-secret\n")
    empty = tmp_path / "empty.yaml"
    empty.touch()
    for path, words in (
        (tmp_path / "missing.yaml", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (binary, "not text in UTF-8"),
        (tabs, "not valid YAML"),
        (empty, "source"),
    ):
        status, out, err = yiagent(command, "-c", f"{path}")
        assert (status, out) == (2, "")
        assert f"yiagent: {path} cannot be used" in err
        assert words in err
        assert "made-up-secret" not in err


def test_the_environment_names_the_file(good: Path, bad: Path) -> None:
    """YIAGENT_CONFIG stands in for `-c`; where both are given, `-c` counts."""
    assert yiagent("check", config=good) == (0, f"{good}: ok\n", "")
    assert yiagent("check", config=bad)[0] == 2
    assert yiagent("check", "-c", f"{good}", config=bad)[0] == 0


def test_run_takes_its_file_from_the_environment(bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent started without `-c` runs with the file that YIAGENT_CONFIG names, and one without a broker says so."""

    class WithoutOption(AgentProcess):
        def command(self) -> list[str]:
            command = super().command()
            monkeypatch.setenv("YIAGENT_CONFIG", command[-1])
            return command[:-2]

    with WithoutOption(tmp_path / "agent") as agent:
        agent.wait_for_log("for Test camera (cam)", WAIT_TIMEOUT_S)
        agent.wait_for_log("mqtt.host is not set", WAIT_TIMEOUT_S)
        assert agent.end() == 0
    assert yiagent("run", config=bad)[0] == 2


def test_no_file_is_told() -> None:
    """Neither `-c` nor YIAGENT_CONFIG: status 2 and how to give one; an empty variable is none."""
    for command in ("run", "check", "doctor"):
        assert yiagent(command) == (2, "", "yiagent: which configuration? Give -c FILE, or set YIAGENT_CONFIG\n")
    assert yiagent("check", "-c", "")[0] == 2


@pytest.mark.parametrize(
    "arguments", [(), ("fly",), ("run", "--fast"), ("check", "-c"), ("check", "a.yaml"), ("--config", "x", "check")]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """What the command line does not know is status 2, with the usage on standard error."""
    status, out, err = yiagent(*arguments)
    assert (status, out) == (2, "")
    assert "usage: yiagent" in err


def test_help_and_version() -> None:
    """`--version` and `--help` answer on standard output with status 0; the help names every command."""
    assert yiagent("--version") == (0, f"yiagent {__version__}\n", "")
    status, out, err = yiagent("--help")
    assert (status, err) == (0, "")
    assert all(command in out for command in ("run", "check", "doctor"))
    assert "-c FILE" in yiagent("run", "--help")[1]


def test_the_installed_program_is_the_same(good: Path) -> None:
    """The script that pip installs and `python -m yiagent` are one program."""
    script = Path(sys.executable).with_name("yiagent")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    for arguments in (("--version",), ("check", "-c", f"{good}"), ("fly",), ("check",)):
        assert yiagent(*arguments, program=[f"{script}"]) == yiagent(*arguments)


def test_it_runs_from_any_folder(good: Path, tmp_path: Path) -> None:
    """A file named relative to the current folder is found there."""
    ran = subprocess.run(
        [sys.executable, "-m", "yiagent", "check", "-c", good.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "good.yaml: ok\n", "")


def test_the_shipped_configuration_is_good() -> None:
    """config/yiagent.yaml, the file to start from, passes the check as it is."""
    shipped = REPOSITORY / "config" / "yiagent.yaml"
    if not shipped.exists():
        pytest.skip("no config/yiagent.yaml")
    assert yaml.safe_load(shipped.read_text())
    status, _, err = yiagent("check", "-c", f"{shipped}")
    assert (status, err) == (0, "")
