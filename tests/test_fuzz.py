"""Hostile input: nothing that reads what others wrote raises, hangs, grows or tells a secret, whatever it is given."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import __main__ as program
from tests.fuzz.mutator import Mutator
from tests.fuzz.run import Finding, fuzz
from tests.fuzz.table import TARGETS
from tests.fuzz.target import Target
from tests.fuzz.targets_commands import Payloads, Wishes
from tests.fuzz.targets_config import Settings
from tests.fuzz.targets_ffmpeg import Launches, Reports
from tests.fuzz.targets_secrets import Leaks
from yiagent.config import ConfigError, parse_config
from yiagent.diagnosis import Diagnosis
from yiagent.progress import LONGEST_LINE, ProgressParser, parse_message
from yiagent.redact import MASK, Redactor
from yiagent.rules import then

SMALL = 200_000
RANDOMS = st.integers(0, 2**32).map(random.Random)


@pytest.mark.parametrize("seed", [1, 20261122])
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_of_each_fuzzer(name: str, seed: int, tmp_path: Path) -> None:
    """Every target takes what the mutator makes of real inputs. The long run is `python -m tests.fuzz`."""
    figures = fuzz(name, TARGETS[name](), amount=SMALL, seed=seed, folder=tmp_path)
    assert figures.fed_bytes >= SMALL
    assert figures.cases > 20
    assert not list(tmp_path.iterdir())


# --- inputs with a structure ----------------------------------------------------------------------------------------

PAYLOADS, SETTINGS, WISHES = Payloads(), Settings(), Wishes()
REPORTS, LAUNCHES, LEAKS = Reports(), Launches(), Leaks()
WORDS = st.sampled_from(
    ["stream", "server", "key", "channel", "transaction", "version", "ON", "OFF", "hd", "auto", "rtmp://h/app", "", "a"]
)
TEXT = st.text(st.characters(), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | TEXT, inner, max_size=6),
    max_leaves=20,
)


def _json(value: Any) -> bytes:
    # Lone surrogates become escapes, NaN and Infinity stand as Python writes them.
    return json.dumps(value).encode()


@given(data=st.binary(max_size=300) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), rng=RANDOMS)
def test_any_bytes_are_a_command_or_refused(data: bytes, rng: random.Random) -> None:
    """Whatever is sent to any topic, as bytes and as text."""
    PAYLOADS.feed(data, rng)
    WISHES.feed(data, rng)


@given(value=JSON | st.dictionaries(WORDS, JSON), rng=RANDOMS)
def test_any_json_is_a_request_or_refused(value: Any, rng: random.Random) -> None:
    """Whatever JSON: of any type anywhere, with the fields there are and with others."""
    PAYLOADS.feed(_json(value), rng)
    WISHES.feed(_json(value), rng)
    WISHES.feed(_json({"version": 1, **value} if isinstance(value, dict) else [value]), rng)


# What is a setting, and what is a section of them.
NAMES = st.sampled_from(sorted(set(re.findall(r"(?m)^ *(\w+):", SETTINGS.mutator.corpus[0].decode()))))
VALUES = st.sampled_from(
    ["rtsp://u:p@h/a", "rtmp://h/a", "on", "1883", "1e999", "nan", "-1", "0x1F", "info", "hd", "~"]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | VALUES | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXT, inner, max_size=6),
    max_leaves=25,
)


@given(data=st.binary(max_size=300) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), rng=RANDOMS)
def test_any_bytes_are_a_configuration_or_refused(data: bytes, rng: random.Random) -> None:
    """Whatever is in the file, and after settings that are right."""
    SETTINGS.feed(data, rng)
    SETTINGS.feed(b"source: {sd: rtsp://camera/a}\nmqtt:\n  password: " + data, rng)


@given(
    tree=st.dictionaries(NAMES | TEXT, TREES, max_size=8),
    style=st.sampled_from([None, True, False]),
    mark=st.sampled_from(["", "'", '"', "|"]),
    rng=RANDOMS,
)
def test_any_settings_are_a_configuration_or_refused(
    tree: dict[str, Any], style: bool | None, mark: str, rng: random.Random
) -> None:
    """Whatever stands where, in every style of YAML."""
    text = yaml.dump(tree, default_flow_style=style, default_style=mark or None, allow_unicode=rng.random() < 0.5)
    SETTINGS.feed(text.encode("utf-8", "surrogatepass"), rng)


KEYS = st.sampled_from(["frame", "fps", "total_size", "drop_frames", "speed", "out_time_us", "bitrate", "progress"])
FIGURES = st.integers().map(str) | st.floats().map(str) | st.sampled_from(["N/A", "continue", "end", "1.0x"]) | TEXT
BLOCKS = st.lists(st.tuples(KEYS, FIGURES, st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n"])), max_size=40)
REPORT = b"frame=1\ntotal_size=2\nprogress=continue\n"


@given(blocks=BLOCKS, cuts=st.lists(st.integers(0, 2000), max_size=10), rng=RANDOMS)
def test_any_reports_however_cut(blocks: list[tuple[str, str, str]], cuts: list[int], rng: random.Random) -> None:
    """Any values in any order: sane figures, and the same wherever the pipe cut them; the next report is whole."""
    data = "".join(f"{key}={value}{end}" for key, value, end in blocks).encode("utf-8", "replace")
    REPORTS.feed(data, rng)
    parser = ProgressParser()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert [report for piece in pieces for report in parser.feed(piece)] == ProgressParser().feed(data)
    parser.feed(b"\nprogress=end\n")
    assert [report.frames for report in parser.feed(REPORT)] == [1]


SAID = st.sampled_from([word.decode("utf-8", "replace") for word in LAUNCHES.mutator.tokens])
LINES = st.lists(st.lists(SAID | TEXT, max_size=6).map("".join), max_size=12)


@given(lines=LINES, rng=RANDOMS)
def test_any_lines_have_a_reason(lines: list[str], rng: random.Random) -> None:
    """Whatever ffmpeg said, in words it does use and others: a reason of the closed set, and no secret in the log."""
    data = "\n".join(lines).encode("utf-8", "replace")
    LAUNCHES.feed(data, rng)
    LEAKS.feed(data, rng)


@given(data=st.binary(max_size=500), rng=RANDOMS)
def test_any_bytes_have_a_reason(data: bytes, rng: random.Random) -> None:
    """Whatever ffmpeg said, and be it no text."""
    LAUNCHES.feed(data, rng)
    LEAKS.feed(data, rng)
    REPORTS.feed(data, rng)


# --- what they found ------------------------------------------------------------------------------------------------


def _takes_s(act: Callable[[], object]) -> float:
    def once() -> float:
        began = time.process_time()
        act()
        return time.process_time() - began

    return min(once() for _ in range(3))


def _filled(word: str, *, before: str = "", after: str = "") -> str:
    return before + word * ((LONGEST_LINE - len(before) - len(after)) // len(word)) + after


@pytest.mark.parametrize(
    "word", ["tcp", "in#0", "error while", "certificate ", "ssl", "rtmp://", "output ", "codec a not "]
)
@pytest.mark.parametrize("opened", [False, True])
def test_no_line_takes_long_to_understand(word: str, *, opened: bool) -> None:
    """The camera and the server write what ffmpeg says, and the agent stands still while it reads."""
    diagnosis = Diagnosis(encrypted=True)
    if opened:
        diagnosis.hear(parse_message("[info] Input #0, rtsp, from 'x':"))
    message = parse_message(f"[error] {_filled(word)}")
    assert _takes_s(lambda: diagnosis.hear(message)) < 0.08


@pytest.mark.parametrize(
    "line", [_filled(" ", before="Error sending"), _filled("1", before="Stream #0:"), _filled("[a] ")]
)
def test_no_blanks_and_digits_take_long_either(line: str) -> None:
    """One word of a pattern, and then nothing that it is waiting for."""
    diagnosis = Diagnosis(encrypted=True)
    diagnosis.hear(parse_message("[info] Input #0, rtsp, from 'x':"))
    assert _takes_s(lambda: diagnosis.hear(parse_message(line))) < 0.08


@pytest.mark.parametrize("line", [_filled("a.", after="://"), _filled("a://"), _filled("a://@"), _filled("a://?")])
def test_no_line_takes_long_to_redact(line: str) -> None:
    """What might become a URL and never does."""
    redactor = Redactor()
    redactor.learn("made-up-key")
    assert _takes_s(lambda: redactor.redact(line)) < 0.04


@given(text=st.text("abc d", max_size=30), first=st.sampled_from(["a", "ab|b"]), second=st.sampled_from(["c", "d|ca"]))
def test_one_thing_then_another(text: str, first: str, second: str) -> None:
    """`then` finds what the plain pattern finds, in one pass."""
    plain = re.search(f"(?:{first}).*(?:{second})", text) is not None
    assert (re.search(then(first, second), text) is not None) == plain


@pytest.mark.parametrize("said", ["Video codec {} not compatible with flv", "Audio codec {} not compatible with flv"])
def test_no_reason_is_longer_than_a_sentence(said: str) -> None:
    """A codec's name of eight thousand letters is none; it would stand in the retained state."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(parse_message(f"[error] {said.format('x' * 8000)}"))
    assert len(diagnosis.late().reason.message) < 300
    diagnosis.hear(parse_message(f"[error] {said.format('av1')}"))
    assert "av1" in diagnosis.late().reason.message


def test_a_server_does_not_write_on_the_terminal() -> None:
    """What a server said is told without the escape sequences in it."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(parse_message("[rtmp @ 0x1] [error] Server error: no\x1b[2J\x07 way"))
    assert diagnosis.late().reason.message.startswith("The server refused the stream: no [2J  way. ")


def test_no_piece_of_a_secret_is_left_at_a_cut() -> None:
    """Of a text that was cut off before it was redacted, so much goes as may be half a secret."""
    redactor = Redactor()
    redactor.learn("kq7x-w9v3-zt4m")
    text = "refused: kq7x-w9v3-zt4m, kq7x-w9v3-zt4m"
    for length in range(len(text)):
        redacted = redactor.redact(text[:length], cut=True)
        assert not set("kq7xw9v3zt4m") & set(redacted)
        assert redacted.endswith("…")
    assert redactor.redact(text) == f"refused: {MASK}, {MASK}"


@pytest.mark.parametrize("said", ["Server error: {} {}", "method PLAY failed: 454 ({} {})"])
@pytest.mark.parametrize("key", ["kq7x-w9v3-zt4m", "kq7x w9v3 zt4m"])
def test_no_piece_of_a_secret_is_in_a_reason(said: str, key: str) -> None:
    """A reason holds so and so much of what was said; where that ends in the middle of a key, the key is not in it."""
    redactor = Redactor()
    redactor.learn(key)
    for length in range(130):
        diagnosis = Diagnosis(encrypted=False, redactor=redactor)
        diagnosis.hear(parse_message(f"[error] {said.format('.' * length, key)}"))
        assert not re.search("[kq7xw9v]{2}|t4", diagnosis.late().reason.message)
        diagnosis = Diagnosis(encrypted=False, redactor=redactor)
        diagnosis.hear(parse_message(f"[error] {said.format('.', key[:8])}"), cut=True)
        assert not re.search("[kq7xw9v]{2}", diagnosis.late().reason.message)


def test_a_key_that_is_a_word_of_ffmpegs() -> None:
    """Whatever the key is, what ffmpeg says is understood: it is hidden where it would be repeated, not before."""
    redactor = Redactor()
    for key in ("Server", "Input", "0"):
        redactor.learn(key)
    diagnosis = Diagnosis(encrypted=False, redactor=redactor)
    diagnosis.hear(parse_message("[info] Input #0, rtsp, from 'x':"))
    diagnosis.hear(parse_message("[error] Server error: no"))
    assert diagnosis.input_open
    assert diagnosis.late().reason.message.startswith(f"The server refused the stream: {MASK}. Check")


def _faults(text: bytes) -> list[str]:
    def no_file(path: Path) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ConfigError) as refused:
        parse_config(text, hostname="h", read_secret=no_file)
    return [f"{fault}" for fault in refused.value.faults]


@pytest.mark.parametrize(
    "text", [b'\nx: "\\U00110000"', b'\nx: "\\UFFFFFFFF"', b"\n%YAML " + b"9" * 5000 + b".1\n---\nx: 1\n"]
)
def test_numbers_that_yaml_cannot_hold(text: bytes) -> None:
    """PyYAML itself raises no YAML error for these."""
    assert _faults(text) == ["line 2: is not valid YAML: a number in it is too large"]


def test_a_name_that_may_be_a_password_is_not_shown_above_another() -> None:
    """A password without its name stands where a section's name should, and something in it twice."""
    faults = _faults(b"source: {sd: rtsp://c/a}\nZq7 xK9: {a: {b: 1, b: 2}, " + b"y" * 50 + b": {a: 1, a: 1}}\n")
    assert [fault for fault in faults if "twice" in fault] == [
        "line 2: ….a.b: stands twice (first in line 2)",
        "line 2: ….….a: stands twice (first in line 2)",
    ]


@pytest.mark.parametrize("opening", [b"[", b"{", b"{a: ", b"- ", b"? "])
def test_no_depth_is_gone_into(opening: bytes) -> None:
    """PyYAML's time grows with the square of the depth; no setting lies twenty levels deep."""
    assert _faults(b"\n" + opening * 21) == _faults(b"\n" + opening * 12000) == ["is nested too deeply"]
    assert _faults(b"\n" + opening * 10) != ["is nested too deeply"]


# --- the fuzzer itself ----------------------------------------------------------------------------------------------


class _Planted(Target):
    """A target with a fault in it."""

    def __init__(self, feed: Callable[[bytes], object], limit_s: float = 0.25) -> None:
        self.mutator = Mutator([b"a real input\n", b"[1, 2, 3]"], (b"nasty",), 500)
        self.limit_s = limit_s
        self._feed = feed

    def feed(self, data: bytes, rng: random.Random) -> None:
        self._feed(data)


def _found(target: Target, folder: Path, *, amount: int = 50_000, watchdog_s: float = 5.0) -> tuple[str, bytes]:
    """What the fuzzer says, and the input it kept."""
    with pytest.raises(Finding) as finding:
        fuzz("planted", target, amount=amount, seed=7, folder=folder, watchdog_s=watchdog_s)
    text = f"{finding.value}"
    match = re.match(r"planted, seed 7, case (\d+): ", text)
    assert match is not None
    file = folder / f"planted-7-{match.group(1)}.bin"
    assert text.endswith(f"\nThe input is in {file}")
    return text, file.read_bytes()


def test_an_exception_is_found(tmp_path: Path) -> None:
    """Whatever escapes is told with the input that did it, and with where it came from."""

    def feed(data: bytes) -> None:
        assert b"nasty" not in data, "a planted fault"

    text, data = _found(_Planted(feed), tmp_path)
    assert b"nasty" in data
    assert "a planted fault" in text
    assert "in feed" in text


def test_a_hang_is_found(tmp_path: Path) -> None:
    """Also one that catches every exception there is, and one in a regular expression."""

    def for_ever(data: bytes) -> None:
        while b"nasty" in data:
            try:
                sum(data)
            except Exception:
                continue

    def backtracking(data: bytes) -> None:
        if b"nasty" in data:
            re.match(r"(a+)+$", "a" * 60 + "b")

    for feed in (for_ever, backtracking):
        text, data = _found(_Planted(feed), tmp_path, watchdog_s=0.2)
        assert "did not end within 0.2 s" in text
        assert b"nasty" in data


def _burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_slow_case_is_found(tmp_path: Path) -> None:
    """One that takes longer than its target allows, each time it is looked at."""
    text, data = _found(_Planted(lambda data: _burn(0.05 if b"nasty" in data else 0), limit_s=0.03), tmp_path)
    assert "more than 0.03 s" in text
    assert b"nasty" in data


def test_a_slow_moment_is_none(tmp_path: Path) -> None:
    """The machine has its own reasons to be slow: what is fast the second time is fast."""
    seen: set[bytes] = set()

    def feed(data: bytes) -> None:
        if b"nasty" in data and len(seen) < 5 and data not in seen:
            seen.add(data)
            _burn(0.05)

    fuzz("planted", _Planted(feed, limit_s=0.03), amount=20_000, seed=7, folder=tmp_path)
    assert len(seen) == 5


def test_growth_is_found(tmp_path: Path) -> None:
    """A little more of each input: large ones by the bytes, and small objects by their number."""
    for factor in (1000, 1):
        kept: list[bytes] = []

        def feed(data: bytes, kept: list[bytes] = kept, factor: int = factor) -> None:
            kept.append(data * factor + b".")

        text, _ = _found(_Planted(feed), tmp_path, amount=50_000 if factor > 1 else 300_000)
        assert "memory grew" in text


def test_a_leak_is_found(tmp_path: Path) -> None:
    """Had nobody told the redactor of the secrets, they would be found in the log."""
    with pytest.raises(Finding, match="a piece of a secret is left"):
        fuzz("journal", Leaks(told=False), amount=SMALL, seed=7, folder=tmp_path)


def test_what_hears_no_signal_is_ended_by_the_kernel(tmp_path: Path) -> None:
    """C code may let nobody in: then the process ends, tells where it stood, and the input at work is on disk."""
    script = f"""
from tests.fuzz import __main__ as program, watch
from tests.test_fuzz import _Planted
watch.LAST_RESORT_S = 0.3
program.tempfile.mkdtemp = lambda prefix: {f"{tmp_path}"!r}
program.TARGETS = {{"planted": lambda: _Planted(lambda data: b"nasty" in data and sum(range(10**13)))}}
program.main(["--seed", "7"])
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, cwd=Path(__file__).parents[1]
    )
    assert ended.returncode == -signal.SIGPROF
    assert b"in feed" in ended.stderr
    header, data = (tmp_path / "planted-7.running").read_bytes().split(b":\n", 1)
    match = re.fullmatch(rb"planted seed 7 case \d+, (\d+) bytes", header)
    assert match is not None
    assert b"nasty" in data[: int(match.group(1))]


def _inputs(seed: int, folder: Path) -> list[bytes]:
    inputs: list[bytes] = []
    fuzz("planted", _Planted(inputs.append), amount=20_000, seed=seed, folder=folder)
    return inputs


def test_a_seed_makes_the_same_inputs(tmp_path: Path) -> None:
    """A finding can be found again; another seed looks elsewhere."""
    assert _inputs(1, tmp_path) == _inputs(1, tmp_path)
    assert _inputs(1, tmp_path) != _inputs(2, tmp_path)


def test_the_mutator_makes_many_things() -> None:
    """Real ones, none at all, as long as there may be, and hardly one twice; none longer than that."""
    mutator = LAUNCHES.mutator
    inputs = [mutator.make(random.Random(seed)) for seed in range(1000)]
    assert set(inputs) & set(mutator.corpus)
    assert mutator.longest / 2 < max(map(len, inputs)) <= mutator.longest
    assert len(set(inputs)) > 800
    assert all(any(token in data for data in inputs) for token in mutator.tokens)


def test_the_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It names its seed and gives each target's figures; a finding makes it fail, and so does a target that is none."""
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}")
    assert program.main(["--bytes", "20000", "--seed", "5", "intent", "progress"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("seed 5;")
    assert [line.split()[0] for line in lines] == ["intent", "progress"]
    with pytest.raises(SystemExit) as usage:
        program.main(["nothing"])
    assert usage.value.code == 2
    planted: Mapping[str, Callable[[], Target]] = {"planted": lambda: _Planted(lambda data: data[10**6])}
    monkeypatch.setattr(program, "TARGETS", planted)
    assert program.main(["--bytes", "20000"]) == 1
    assert "IndexError" in capsys.readouterr().out
