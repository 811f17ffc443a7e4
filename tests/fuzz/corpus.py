"""What inputs are made of: what real ffmpegs said, and words that are nasty to one reader or another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from yiagent.progress import LONGEST_LINE

TESTS: Final = Path(__file__).parents[1]
# Stands where a secret may stand; no message may repeat it. Not of the form of a setting's name, which may be shown.
MARKER: Final = "Zq7-xK9 wV3!"
MARKER_BYTES: Final = MARKER.encode()
SPACELESS: Final = MARKER_BYTES.replace(b" ", b"")


def _words(text: str) -> tuple[bytes, ...]:
    """Words between bars, with Python's escapes; where the lines of `text` end means nothing."""
    return tuple(word.encode().decode("unicode_escape").encode("latin-1") for word in text.replace("\n", "").split("¦"))


ANYWHERE: Final = _words(r"""
\0¦\xff¦\xc3¦\xed\xa0\x80¦\xf4\x90\x80\x80¦\xef\xbb\xbf¦\xff\xfe¦\xfe\xff¦\r\n¦\r¦\n¦\t¦\x1b[2J\x1b]0;x\x07¦\x7f¦\xc2\x85
¦\xe2\x80\xa8¦\xe2\x80\xae¦\xf0\x9f\x94\x91¦\xd9\xa3¦-¦--¦ ¦%s%n¦{0}{1.__class__}¦%00¦%¦***¦../../../etc/passwd¦'¦"¦\\
¦99999999999999999999¦1e999¦-1¦0x1F¦1_0¦nan¦inf¦://¦rtmp://¦a://¦@¦?¦#¦&¦=¦[::1]¦[¦]
""")
JSON: Final = (
    b"[" * 3000,
    b'{"a":' * 600,
    b"9" * 4400,
    *_words(r"""
{"stream":"ON","stream":"OFF"}¦NaN¦-Infinity¦1e999¦null¦true¦[]¦{}¦"\\ud800"¦"\\udc00\\ud800"¦"\\u0000"¦\\u¦\\¦"¦,¦:¦{¦}
¦"transaction":¦"key":¦"version":
"""),
)
YAML: Final = (
    b"%YAML " + b"9" * 4400,
    *_words(r"""
a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n¦&a ¦*a¦<<: *a\n¦!!python/object/apply:os.system [id]¦!¦!<a>
¦%YAML 1.1\n---\n¦%YAML 1.¦%TAG ! tag:x,2000:\n¦---\n¦...\n¦? ¦: ¦- ¦- - ¦[¦{¦{a: ¦]¦}¦,¦|\n¦>+9\n¦'¦"¦"\\U
¦"\\UFFFFFFFF"¦"\\uD800"¦"\\x¦\\\n¦#¦~¦null¦.nan¦.inf¦  ¦\n  ¦\n¦password: ¦mqtt:\n  ¦source: ¦: {a: 1, a: 2}\n
"""),
)
STDERR: Final = (
    b"x" * (LONGEST_LINE - 3),
    *_words(r"""
[error] ¦[rtsp @ 0x1] [warning] ¦[fatal] ¦[info] Input #0, rtsp, from 'x':\n¦[info] Output #0, flv, to 'x':\n
¦[info]   Stream #0:0: Video: h264¦Stream #0:1¦: Audio: ¦method DESCRIBE failed: 500 ¦401 Unauthorized
¦Server error: ¦Video codec ¦codec a ¦ not supported in container¦ not compatible with flv¦certificate ¦ssl ¦handshake¦rtmp://
¦rtmp://a/b/c: ¦Input/output error¦output ¦Connection to tcp://¦ failed¦av_interleaved_write_frame()
¦Error sending ¦Error closing file¦Broken pipe¦timed out¦error while ¦tcp¦rtsp¦in#0
¦EOF¦Exiting normally, received signal¦Immediate exit requested¦dimensions not set¦Out of memory¦[a] ¦ @ 0x¦a.¦a://
"""),
)
PROGRESS: Final = (
    b"x" * (LONGEST_LINE - 3),
    *_words(r"frame=¦total_size=¦progress=continue\n¦progress=end\n¦speed=¦fps=¦drop_frames=¦out_time_us=¦=¦N/A"),
)


def recordings() -> list[bytes]:
    """What real ffmpegs said, launch by launch."""
    texts = [path.read_bytes() for path in sorted((TESTS / "data" / "stderr").glob("*.txt"))]
    return [launch for text in texts for launch in re.split(rb"^### .*\n", text, flags=re.MULTILINE) if launch]
