"""What ffmpeg says: its figures, and its messages."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator

from tests.fuzz.corpus import PROGRESS, STDERR, recordings
from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Target, check_sentence
from yiagent.diagnosis import Diagnosis, is_expected
from yiagent.model import Failure, Progress, ReasonCode
from yiagent.progress import LONGEST_LINE, LineSplitter, ProgressParser, parse_message


def chunks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """`data` as a pipe may give it."""
    # Byte by byte only where that is soon done.
    most = rng.choice((1, 7, 100, 4096, 65536) if len(data) < 3000 else (100, 4096, 65536))
    at = 0
    while at < len(data):
        size = rng.randint(1, most)
        yield data[at : at + size]
        at += size


class Reports(Target):
    """`-progress`: the same sane figures however the pipe cuts, and little that is kept."""

    def __init__(self) -> None:
        report = (
            b"frame=%d\nfps=20.35\nstream_0_0_q=-1.0\nbitrate= 736.4kbits/s\ntotal_size=%d\nout_time_us=5952000\n"
            b"out_time=00:00:05.952000\ndup_frames=0\ndrop_frames=3\nspeed=1.07x\nprogress=continue\n"
        )
        corpus = [
            report % (113, 547871),
            b"".join(report % (number, 5000 * number) for number in range(8)),
            (report % (1, 2)).replace(b"\n", b"\r\n"),
            report.replace(b"%d", b"N/A"),
            report % (114, 5) + b"frame=115\ntotal_size=6\nprogress=end\n",
        ]
        self.mutator = Mutator(corpus, PROGRESS, 8 * LONGEST_LINE)
        # Lives as long as the run: what it kept of each input would add up.
        self._parser = ProgressParser()
        self._splitter = LineSplitter()

    def feed(self, data: bytes, rng: random.Random) -> None:
        for chunk in chunks(data, rng):
            for report in self._parser.feed(chunk):
                _check_report(report)
            for line, _ in self._splitter.feed(chunk):
                assert 0 < len(line) <= LONGEST_LINE
                assert "\n" not in line
                assert "\r" not in line
        held = len(pickle.dumps(self._parser)) + len(pickle.dumps(self._splitter))
        # A line that has not ended in each of the two, and one value for each key.
        assert held <= 10 * LONGEST_LINE, f"{held} bytes are kept"
        parser = ProgressParser()
        assert [report for chunk in chunks(data, rng) for report in parser.feed(chunk)] == ProgressParser().feed(data)


def _check_report(report: Progress) -> None:
    assert all(0 <= count < 10**18 for count in (report.frames, report.total_bytes, report.dropped_frames)), report
    assert all(rate is None or 0 <= rate < 1000 for rate in (report.fps, report.speed)), report
    assert report.media_s is None or 0 <= report.media_s < 1e12, report


class Launches(Target):
    """Whole launches: whatever was said, one reason of the closed set in a sentence."""

    limit_s = 0.2
    STATUSES = (0, 1, 8, 183, 251, 255, -2, -6, -9, -11, -15, -64, -65, 2**31, -(2**31))

    def __init__(self) -> None:
        self.mutator = Mutator(recordings(), STDERR, 4 * LONGEST_LINE)

    def feed(self, data: bytes, rng: random.Random) -> None:
        diagnosis = Diagnosis(encrypted=rng.random() < 0.5)
        splitter = LineSplitter()
        for chunk in [*chunks(data, rng), b"\n"]:
            for line, _ in splitter.feed(chunk):
                message = parse_message(line)
                assert len(message.line) <= len(line) + 2
                is_expected(message)
                diagnosis.hear(message)
            if rng.random() < 0.1:
                _check_failure(diagnosis.late())
        _check_failure(diagnosis.late())
        _check_failure(any_end(diagnosis, rng))
        assert len(pickle.dumps([diagnosis.audio_codec, diagnosis.video_codec])) < 300
        assert isinstance(diagnosis.input_open or diagnosis.output_open or diagnosis.wants_patience, bool)


def any_end(diagnosis: Diagnosis, rng: random.Random) -> Failure:
    """What `diagnosis` says of an end of any kind."""
    status, for_memory = rng.choice(Launches.STATUSES), rng.random() < 0.5
    return diagnosis.ended(status, flowed=rng.random() < 0.5, killed_for_memory=lambda: for_memory)


def _check_failure(failure: Failure) -> None:
    assert failure.reason.code in tuple(ReasonCode)
    check_sentence(failure.reason.message)
