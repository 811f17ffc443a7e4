"""The latest keyframe of an FLV stream, kept as a small FLV file of its own. Pure and bounded; nothing is decoded.

An FLV file is a header and tags, each with its length in front and behind (Adobe's File Format Specification 10.1,
annex E; Enhanced RTMP for other codecs than H.264). Whatever bytes come in, no more than two tags of `most_bytes` are
kept and nothing raises.
"""

from __future__ import annotations

from typing import Final

# A keyframe of 1080p is some hundred kilobytes. What is longer than this is left out: a camera has 64 MB.
MOST_TAG_BYTES: Final = 2 << 20
_FILE_HEADER: Final = b"FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00"
_TAG_HEADER_BYTES: Final = 11
_LENGTH_BYTES: Final = 4
_AUDIO: Final = 8
_VIDEO: Final = 9
_SCRIPT: Final = 18
_KEYFRAME: Final = 1
# Codecs of which each keyframe needs what stands in the sequence header.
_WITH_SEQUENCE_HEADER: Final = frozenset({7, 12})
_SEQUENCE_HEADER: Final = 0
_CODED_FRAME: Final = 1
_ENHANCED_CODED_FRAMES: Final = frozenset({1, 3})


class KeyframeKeeper:
    """Takes in the stream in any pieces. One that turns out to be no FLV is thrown away from there on."""

    def __init__(self, most_bytes: int = MOST_TAG_BYTES) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()
        self._to_skip = 0
        self._begun = False
        self._lost = False
        self._sequence_header = b""
        self._keyframe = b""

    @property
    def flv(self) -> bytes | None:
        """The latest keyframe with all it takes to decode it; None before the first."""
        return _FILE_HEADER + self._sequence_header + self._keyframe if self._keyframe else None

    def feed(self, data: bytes) -> bool:
        """Take in what came; whether there is a new keyframe."""
        if self._lost:
            return False
        skipped = min(self._to_skip, len(data))
        self._to_skip -= skipped
        self._rest += data[skipped:]
        is_new = False
        while (front := self._front()) is not None:
            length, is_wanted = front
            if len(self._rest) >= length:
                if is_wanted:
                    is_new |= self._take(bytes(self._rest[:length]))
                del self._rest[:length]
                continue
            if not is_wanted:
                self._to_skip = length - len(self._rest)
                self._rest.clear()
            break
        if self._lost:
            self._rest.clear()
        return is_new

    def _front(self) -> tuple[int, bool] | None:
        """How long that is which begins at the front, and whether it is wanted; None where this cannot be told yet."""
        rest = self._rest
        if self._lost or len(rest) < (_TAG_HEADER_BYTES if self._begun else len(_FILE_HEADER)):
            return None
        if not self._begun:
            self._begun = True
            # Behind the version stands what the file holds: video, or sound as well.
            self._lost = rest[:4] != _FILE_HEADER[:4] or rest[5:13] != _FILE_HEADER[5:]
            return len(_FILE_HEADER), False
        kind = rest[0]
        self._lost = kind not in (_AUDIO, _VIDEO, _SCRIPT)
        length = _TAG_HEADER_BYTES + int.from_bytes(rest[1:4], "big") + _LENGTH_BYTES
        return None if self._lost else (length, kind == _VIDEO and length <= self._most_bytes)

    def _take(self, tag: bytes) -> bool:
        """Keep what a video tag brings; whether that is a keyframe to show."""
        size = len(tag) - _LENGTH_BYTES
        if int.from_bytes(tag[size:], "big") != size:
            self._lost = True
            return False
        body = tag[_TAG_HEADER_BYTES:size]
        if len(body) < 2:
            return False
        enhanced = bool(body[0] & 0x80)
        needs_header = enhanced or body[0] & 0xF in _WITH_SEQUENCE_HEADER
        packet = body[0] & 0xF if enhanced else body[1] if needs_header else _CODED_FRAME
        if needs_header and packet == _SEQUENCE_HEADER:
            if tag != self._sequence_header:
                self._sequence_header, self._keyframe = tag, b""
            return False
        is_frame = packet in _ENHANCED_CODED_FRAMES if enhanced else packet == _CODED_FRAME
        is_key = body[0] >> 4 & 0x7 == _KEYFRAME
        if not (is_frame and is_key) or (needs_header and not self._sequence_header):
            return False
        self._keyframe = tag
        return True
