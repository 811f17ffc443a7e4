"""What people run without an agent: ffmpeg in a shell loop, as it comes and as somebody who knows ffmpeg writes it."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.peers.process import Peer

LOOP = 'while true; do "$@"; sleep 1; done'
# The same by a shell that is there already and waits for a word.
WAITING_LOOP = f"read -r word; {LOOP}"


def plain_command(camera_url: str, publish_url: str, ffmpeg: Path | str = "ffmpeg") -> list[str]:
    """The command that every answer to the question gives."""
    return [f"{ffmpeg}", "-rtsp_transport", "tcp", "-i", camera_url, "-c", "copy", "-f", "flv", publish_url]


def tuned_command(camera_url: str, publish_url: str, ffmpeg: Path | str = "ffmpeg") -> list[str]:
    """The same with a short probe, and with a time-out on either side."""
    return [
        *(f"{ffmpeg}", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "info", "-fflags", "+genpts"),
        *("-rtsp_transport", "tcp", "-timeout", "5000000"),
        *("-probesize", "32768", "-analyzeduration", "500000", "-fpsprobesize", "0", "-i", camera_url),
        # ffmpeg 7 takes no RTSP audio packet for a keyframe and drops all before the first one.
        *("-map", "0:v:0", "-map", "0:a:0", "-c", "copy", "-copyinkf:a"),
        *("-flvflags", "no_duration_filesize", "-rw_timeout", "10000000", "-tcp_nodelay", "1", "-f", "flv"),
        publish_url,
    ]


class FfmpegLoop(Peer):
    """`while true; do ffmpeg …; sleep 1; done`. `waits`: it begins with `begin()`, in a shell that is there before."""

    def __init__(self, name: str, folder: Path, command: list[str], *, waits: bool = False) -> None:
        super().__init__(name, folder)
        self._command = command
        self._script = WAITING_LOOP if waits else LOOP

    def command(self) -> list[str]:
        return ["sh", "-c", self._script, self.name, *self._command]

    def begin(self) -> None:
        """Let a loop that waits go on."""
        self.write_line("now")

    def stop(self) -> None:
        """End it by force: an ffmpeg that is blocked outlives a TERM, and the shell that it belongs to."""
        self.kill()

    def senders(self) -> list[psutil.Process]:
        """The ffmpeg that runs now; none while it sleeps."""
        children = psutil.Process(self.pid).children() if self.alive else []
        return [child for child in children if child.name() == "ffmpeg"]
