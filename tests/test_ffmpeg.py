"""ffmpeg's command line: what is typed stands where a value stands, whatever it is, and never where an option does."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.ffmpeg import (
    PATIENT_PROBE,
    TUNED_PROBE,
    Capabilities,
    Job,
    Plan,
    camera_picture_arguments,
    capabilities_arguments,
    keyframe_arguments,
    keyframe_picture_arguments,
    look_arguments,
    needs_look,
    parse_capabilities,
    parse_picks_keyframes,
    remux_arguments,
)
from yiagent.model import Audio, Channel, Transport
from yiagent.redact import Secret
from yiagent.urls import BadUrl, check_key, parse_server, parse_source

CAPABILITIES = Path(__file__).parent / "data" / "capabilities"
CURRENT = Capabilities("7.1.5", "timeout")
JOB = Job(
    channel=Channel.HD,
    source=parse_source("rtsp://camera.example/ch0_0.h264"),
    username=None,
    password=None,
    transport=Transport.TCP,
    audio=Audio.AUTO,
    server="rtmp://server.example/live",
    key=Secret("made-up-key"),
    stall_timeout_s=10.0,
)
KNOWN = Plan("aac")
# Every option that may be used, and whether a value follows it.
FLAGS = {"-hide_banner", "-nostdin", "-nostats", "-an", "-shortest", "-copyinkf:a"}
WITH_VALUE = {
    "-loglevel",
    "-progress",
    "-stats_period",
    "-protocol_whitelist",
    "-fflags",
    "-rtsp_transport",
    "-timeout",
    "-stimeout",
    "-probesize",
    "-analyzeduration",
    "-fpsprobesize",
    "-i",
    "-f",
    "-map",
    "-c:v",
    "-c:a",
    "-ar",
    "-ac",
    "-b:a",
    "-flvflags",
    "-flush_packets",
    "-bsf:v",
    "-frames:v",
    "-threads",
    "-skip_frame",
    "-q:v",
    "-rw_timeout",
    "-send_buffer_size",
    "-tcp_nodelay",
    "-tls_verify",
    "-ca_file",
    "-rtmp_app",
    "-rtmp_playpath",
}


def _options(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """The arguments as ffmpeg reads them: option and value; "" for a flag's value and for the option of a URL."""
    rest = iter(arguments)
    for argument in rest:
        if argument in FLAGS:
            yield argument, ""
        elif argument in WITH_VALUE:
            yield argument, next(rest)
        else:
            assert not argument.startswith("-"), f"{argument} is no option that is meant"
            yield "", argument


def _read(arguments: list[str]) -> list[tuple[str, str]]:
    options = list(_options(arguments))
    urls = [value for option, value in options if not option]
    assert urls == arguments[-1:], "ffmpeg takes exactly one output, and it stands last"
    return options


def _values(arguments: list[str], name: str) -> list[str]:
    return [value for option, value in _read(arguments) if option == name]


def _remux(job: Job = JOB, plan: Plan = KNOWN, capabilities: Capabilities = CURRENT) -> list[str]:
    return remux_arguments(job, plan, capabilities)


# --- what is typed --------------------------------------------------------------------------------------------------


def test_a_remux_as_it_stands() -> None:
    """The whole command line, so that no change of it goes unseen."""
    assert " ".join(_remux()) == (
        "-hide_banner -nostdin -nostats -loglevel repeat+level+info -progress pipe:1 -stats_period 0.5"
        " -protocol_whitelist rtsp,rtsps,rtp,srtp,udp,tcp,tls -fflags +genpts -rtsp_transport tcp -timeout 10000000"
        " -probesize 32768 -analyzeduration 500000 -fpsprobesize 0 -i rtsp://camera.example/ch0_0.h264"
        " -map 0:v:0 -c:v copy -map 0:a:0 -c:a copy -copyinkf:a"
        " -protocol_whitelist rtmp,tcp -flvflags no_duration_filesize -rw_timeout 10000000 -tcp_nodelay 1"
        " -send_buffer_size 262144"
        " -rtmp_app live -rtmp_playpath made-up-key -f flv rtmp://server.example/live"
    )


KEYS = [
    "-f",
    "-i /etc/passwd",
    "--help",
    "a?b=c&d",
    "a/b",
    "k y",
    "'\"$(x)`;|&\\",
    "%s%n",
    "[v]",
    "@f",
    "🔑",
    "k" * 255,
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_one_value(key: str) -> None:
    """A stream key is a whole argument of its own right behind `-rtmp_playpath`, and stands nowhere else."""
    arguments = _remux(replace(JOB, key=Secret(check_key(key))))
    assert _values(arguments, "-rtmp_playpath") == [key]
    assert [option for option, value in _read(arguments) if key in value] == ["-rtmp_playpath"]


@pytest.mark.parametrize(
    ("server", "app", "url"),
    [
        ("rtmp://h/live", "live", "rtmp://h/live"),
        ("rtmp://h/live/", "live", "rtmp://h/live"),
        ("RTMP://H/Live", "Live", "rtmp://H/Live"),
        ("rtmp://h:1936/app/instance", "app/instance", "rtmp://h:1936/app/instance"),
        ("rtmp://b.example/live2?backup=1", "live2?backup=1", "rtmp://b.example/live2"),
        ("rtmp://h/a?x=/b/c", "a?x=/b/c", "rtmp://h/a"),
        ("rtmp://[::1]/live", "live", "rtmp://[::1]/live"),
        ("rtmps://[2001:db8::1]:443/live", "live", "rtmps://[2001:db8::1]:443/live"),
        ("rtmp://user:p%40ss@h/live", "live", "rtmp://user:p%40ss@h/live"),
        ("rtmp://user@h/live", "live", "rtmp://user@h/live"),
        ("rtmp://h", "", "rtmp://h/"),
        ("rtmp://h/-f", "-f", "rtmp://h/-f"),
    ],
)
def test_application_and_server(server: str, app: str, url: str) -> None:
    """The application goes apart from the URL, with its query; the URL names the server and holds no key."""
    arguments = _remux(replace(JOB, server=server))
    assert _values(arguments, "-rtmp_app") == [app]
    assert arguments[-3:] == ["-f", "flv", url]
    assert "made-up-key" not in arguments[-1]


@pytest.mark.parametrize(
    ("source", "username", "password", "address"),
    [
        ("rtsp://h/a", None, None, "rtsp://h/a"),
        ("rtsps://[::1]:322/a?b=c", None, None, "rtsps://[::1]:322/a?b=c"),
        ("rtsp://cam:word@h/a", None, None, "rtsp://cam:word@h/a"),
        ("rtsp://cam:p%40s%2Fs@h/a", None, None, "rtsp://cam:p%40s%2Fs@h/a"),
        ("rtsp://h/a", "cam", "p@s/s:?#", "rtsp://cam:p%40s%2Fs%3A%3F%23@h/a"),
        ("rtsp://h/a", "-f", "-i", "rtsp://-f:-i@h/a"),
        ("rtsp://h/a", "ca m", "é\n", "rtsp://ca%20m:%C3%A9%0A@h/a"),
        ("rtsp://h/-f", "cam", None, "rtsp://cam@h/-f"),
    ],
)
def test_the_camera_with_its_credentials(source: str, username: str | None, password: str | None, address: str) -> None:
    """User and password go into the address percent-encoded, so that none of their characters means anything."""
    secret = Secret(password) if password is not None else None
    job = replace(JOB, source=parse_source(source), username=username, password=secret)
    for arguments in (_remux(job), [*look_arguments(job, KNOWN, CURRENT), "rtmp://none"]):
        assert _values(arguments, "-i") == [address]


TYPED = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.sampled_from("-:@/?&=%#,;[]"), min_size=1
)
SERVERS = st.builds(lambda host, path: f"rtmp{host}/{path}", st.sampled_from(["://h", "s://h:1", "://[::1]"]), TYPED)


@given(
    server=SERVERS,
    key=TYPED,
    path=TYPED,
    username=st.none() | st.text(st.characters(codec="utf-8")),
    password=st.text(st.characters(codec="utf-8")),
    ca_file=st.sampled_from([None, "-i", "/etc/ca.pem"]),
    audio=st.sampled_from(Audio),
    codec=st.sampled_from([None, "", "aac", "pcm_alaw"]),
    transport=st.sampled_from(Transport),
    patient=st.booleans(),
)
def test_nothing_typed_is_an_option(
    server: str,
    key: str,
    path: str,
    username: str | None,
    password: str,
    ca_file: str | None,
    audio: Audio,
    codec: str | None,
    transport: Transport,
    patient: bool,
) -> None:
    """Whatever is taken for a server, a key, a path or a password: ffmpeg reads the options that are meant, and each
    typed text as the value of its own option or in its own URL."""
    try:
        check_key(key)
        url = parse_server(server)
        source = parse_source(f"rtsp://camera.example/{path}")
    except BadUrl:
        return
    job = Job(
        Channel.SD, source, username, Secret(password), transport, audio, server, Secret(key), 10.0, ca_file=ca_file
    )
    arguments = remux_arguments(job, Plan(codec, patient=patient), CURRENT)
    assert all(isinstance(argument, str) for argument in arguments)
    options = _read(arguments)
    assert [value for option, value in options if option == "-rtmp_playpath"] == [key]
    assert [value for option, value in options if option == "-ca_file"] == (
        [ca_file] if ca_file is not None and url.scheme == "rtmps" else []
    )
    addresses = [value for option, value in options if option == "-i" and not value.startswith("anullsrc")]
    (address,) = addresses
    assert address.startswith("rtsp://")
    assert address.endswith(f"camera.example/{path}")
    if username is not None:
        userinfo = address.removeprefix("rtsp://").removesuffix(f"@camera.example/{path}")
        assert userinfo.isascii()
        assert [unquote(part) for part in userinfo.split(":")] == [username, password]
    assert arguments[-1].startswith(f"{url.scheme}://{url.authority}/")
    typed = {"-rtmp_playpath", "-rtmp_app", "-ca_file", "-i", ""}
    fixed = {value for option, value in options if option not in typed | FLAGS}
    plain = remux_arguments(
        replace(JOB, audio=audio, transport=transport, server=f"{url.scheme}://h/a"),
        Plan(codec, patient=patient),
        CURRENT,
    )
    assert fixed <= set(plain)


@pytest.mark.parametrize(
    ("server", "protocols"), [("rtmp://h/a", {"rtmp", "tcp"}), ("rtmps://h/a", {"rtmps", "tls", "tcp"})]
)
def test_only_what_is_meant_is_opened(server: str, protocols: set[str]) -> None:
    """A camera or a server that redirects, or a stream that refers, to a file or to http gets neither."""
    arguments = _remux(replace(JOB, server=server))
    camera, sink = (set(allowed.split(",")) for allowed in _values(arguments, "-protocol_whitelist"))
    assert camera == {"rtsp", "rtsps", "rtp", "srtp", "udp", "tcp", "tls"}
    assert sink == protocols
    places = [at for at, argument in enumerate(arguments) if argument in ("-protocol_whitelist", "-i")]
    assert [arguments[at] for at in places] == ["-protocol_whitelist", "-i", "-protocol_whitelist"]
    assert look_arguments(JOB, KNOWN, CURRENT).count("-protocol_whitelist") == 1


# --- what is configured ---------------------------------------------------------------------------------------------

COPIED = ["-map", "0:a:0", "-c:a", "copy", "-copyinkf:a"]
ENCODED = ["-map", "0:a:0", "-c:a", "aac", "-ar", "44100", "-ac", "1", "-b:a", "64k"]
SILENCE = ["-map", "1:a:0", "-c:a", "aac", "-b:a", "32k", "-shortest"]
GENERATOR = ["-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono"]


@pytest.mark.parametrize(
    ("audio", "codec", "expected"),
    [
        (Audio.AUTO, "aac", COPIED),
        (Audio.AUTO, "pcm_alaw", ENCODED),
        (Audio.AUTO, "pcm_mulaw", ENCODED),
        (Audio.AUTO, "adpcm_g726", ENCODED),
        (Audio.AUTO, "", SILENCE),
        *[(Audio.AAC, codec, ENCODED) for codec in (None, "aac", "pcm_alaw", "")],
        *[(Audio.SILENT, codec, SILENCE) for codec in (None, "aac", "pcm_alaw", "")],
        *[(Audio.NONE, codec, ["-an"]) for codec in (None, "aac", "pcm_alaw", "")],
        # A camera without sound is no fault where sound is only to be copied.
        *[(Audio.COPY, codec, ["-map", "0:a:0?", *COPIED[2:]]) for codec in (None, "aac", "pcm_alaw", "")],
    ],
)
@pytest.mark.parametrize("patient", [False, True])
def test_what_becomes_of_the_sound(audio: Audio, codec: str | None, expected: list[str], patient: bool) -> None:
    """Every mode with every kind of camera; the picture is always copied, and only silence is generated."""
    arguments = _remux(replace(JOB, audio=audio), Plan(codec, patient=patient))
    start = arguments.index("rtsp://camera.example/ch0_0.h264") + 1
    media = arguments[start : arguments.index("-protocol_whitelist", start)]
    generator = GENERATOR if expected == SILENCE else []
    assert media == [*generator, "-map", "0:v:0", "-c:v", "copy", *expected]


@pytest.mark.parametrize("audio", Audio)
@pytest.mark.parametrize("codec", [None, "", "aac", "pcm_alaw"])
def test_the_camera_is_looked_at_only_where_it_matters(audio: Audio, codec: str | None) -> None:
    """Only `auto` depends on the camera's codec, and only until it is known: a look costs a start."""
    assert needs_look(replace(JOB, audio=audio), Plan(codec)) == (audio is Audio.AUTO and codec is None)


def test_a_look_has_no_output() -> None:
    """It ends by itself once ffmpeg has told what the camera sends; nothing goes to the server, the key not at all."""
    arguments = look_arguments(JOB, Plan(None), CURRENT)
    assert arguments[-2:] == ["-i", "rtsp://camera.example/ch0_0.h264"]
    assert not {"-f", "-rtmp_playpath", "-progress"} & set(arguments)
    assert "made-up-key" not in " ".join(arguments)


@pytest.mark.parametrize("transport", Transport)
def test_the_transport_is_the_owners(transport: Transport) -> None:
    """TCP or UDP, as set."""
    assert _values(_remux(replace(JOB, transport=transport)), "-rtsp_transport") == [transport.value]


@pytest.mark.parametrize(("patient", "probe"), [(False, TUNED_PROBE), (True, PATIENT_PROBE)])
def test_how_long_the_camera_is_looked_at(patient: bool, probe: tuple[str, ...]) -> None:
    """Briefly, or for the camera whose picture's size comes only with its next keyframe, patiently."""
    for arguments in (
        _remux(plan=Plan("aac", patient=patient)),
        look_arguments(JOB, Plan(None, patient=patient), CURRENT),
    ):
        at = arguments.index("-probesize")
        assert tuple(arguments[at : at + len(probe)]) == probe
        assert at < arguments.index("-i")
    # 0 would mean ffmpeg's default, which takes seconds.
    assert all(int(value) > 0 for option, value in pairwise(probe) if option == "-analyzeduration")


@pytest.mark.parametrize("server", ["rtmp://h/a", "rtmps://h/a", "RTMPS://h/a"])
@pytest.mark.parametrize("ca_file", [None, "/etc/ca.pem"])
def test_certificates_are_verified(server: str, ca_file: str | None) -> None:
    """Behind rtmps always, against the given authorities where there are any; ffmpeg would check nothing by itself."""
    arguments = _remux(replace(JOB, server=server, ca_file=ca_file))
    encrypted = server.lower().startswith("rtmps")
    assert _values(arguments, "-tls_verify") == (["1"] if encrypted else [])
    assert _values(arguments, "-ca_file") == ([ca_file] if encrypted and ca_file else [])
    assert _values(arguments, "-tcp_nodelay") == ["1"]


@pytest.mark.parametrize(
    ("stall_s", "camera_us", "server_us"),
    [
        (1, 5_000_000, 10_000_000),
        (10, 10_000_000, 10_000_000),
        (2.5, 5_000_000, 10_000_000),
        (60, 60_000_000, 60_000_000),
    ],
)
def test_nothing_waits_for_ever(stall_s: float, camera_us: int, server_us: int) -> None:
    """Time-outs in microseconds on both sides, behind the agent's own timer."""
    arguments = _remux(replace(JOB, stall_timeout_s=stall_s))
    assert _values(arguments, "-timeout") == [str(camera_us)]
    assert _values(arguments, "-rw_timeout") == [str(server_us)]


# --- what the installed ffmpeg can do -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recording", "version", "option"),
    [
        ("4.3", "4.3.9-0+deb11u1", "stimeout"),
        ("5.1", "5.1.9-0+deb12u1", "timeout"),
        ("7.1", "7.1.5-0+deb13u1", "timeout"),
        ("9.0", "9.0.2-4", "timeout"),
    ],
)
def test_the_installed_ffmpeg_is_asked(recording: str, version: str, option: str) -> None:
    """Its version and the name of its socket time-out, from what it prints; before ffmpeg 5 `-timeout` means listen."""
    capabilities = parse_capabilities((CAPABILITIES / f"{recording}.txt").read_text())
    assert capabilities == Capabilities(version, option, verifies_cameras=version.startswith("9."))
    arguments = _remux(capabilities=capabilities)
    assert _values(arguments, f"-{option}") == ["10000000"]
    assert not {"-timeout", "-stimeout"} - {f"-{option}"} & set(arguments)


def test_an_ffmpeg_without_the_time_out() -> None:
    """Where neither name is known, neither is used: an unknown option would end every start."""
    capabilities = parse_capabilities(
        "ffmpeg version N-12345-gabcdef Copyright (c)\nRTSP demuxer AVOptions:\n  -user_agent <string>\n"
    )
    assert capabilities == Capabilities("N-12345-gabcdef", None)
    assert not {"-timeout", "-stimeout"} & set(_remux(capabilities=capabilities))


@pytest.mark.parametrize("output", ["", "sh: ffmpeg: not found", "avconv version 12", "not ffmpeg version 5", "\0\0"])
def test_what_is_no_ffmpeg(output: str) -> None:
    """A program that does not introduce itself is not taken for one."""
    assert parse_capabilities(output) is None


@given(st.text())
def test_any_output_is_read(output: str) -> None:
    """Whatever a program prints, nothing raises."""
    assert parse_capabilities(output) is None or "ffmpeg version" in output


def test_asking_makes_ffmpeg_do_nothing() -> None:
    """Only help is asked for: no input, no output, and the banner (which has the version) is not hidden."""
    assert capabilities_arguments() == ["-loglevel", "info", "-h", "demuxer=rtsp"]


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", Audio)
def test_keyframes_are_a_second_output(audio: Audio) -> None:
    """Behind the plain command line, which they change in nothing: what ffmpeg reports is about its first output."""
    job = replace(JOB, audio=audio)
    plain = remux_arguments(job, KNOWN, CURRENT)
    with_keyframes = remux_arguments(job, KNOWN, CURRENT, keyframes_to=7)
    assert with_keyframes[: len(plain)] == plain
    assert " ".join(with_keyframes[len(plain) :]) == (
        "-map 0:v:0 -c:v copy -bsf:v noise=drop=not(key) -flvflags no_duration_filesize -flush_packets 1 -f flv pipe:7"
    )


def test_a_picture_of_the_camera() -> None:
    """The camera is opened as the remux opens it; nothing goes to the server, the key not at all."""
    arguments = camera_picture_arguments(JOB, KNOWN, CURRENT)
    look = look_arguments(JOB, KNOWN, CURRENT)
    at = look.index("-protocol_whitelist")
    assert " ".join(look[at:]) in " ".join(arguments)
    assert arguments[-3:] == ["-f", "image2pipe", "pipe:1"]
    assert "made-up-key" not in " ".join(arguments)
    _read(arguments)


def test_a_picture_of_a_keyframe() -> None:
    """It opens nothing but its standard input, whatever that refers to."""
    options = _read(keyframe_picture_arguments())
    assert [value for option, value in options if option in ("-protocol_whitelist", "-i")] == ["pipe", "pipe:0"]


@pytest.mark.parametrize(
    ("output", "picks"),
    [
        ("noise AVOptions:\n  -amount  <string>  ...VA\n  -drop    <string>  ...VA\n", True),
        ("noise AVOptions:\n  -amount  <int>  ...VA\n  -dropamount  <int>  ...VA\n", False),
        ("Unknown bit stream filter 'noise'.\n", False),
        ("", False),
    ],
)
def test_whether_keyframes_can_be_picked(output: str, picks: bool) -> None:
    """By the option that ffmpeg 5 has, not by a version; an older one has another of nearly the same name."""
    assert parse_picks_keyframes(output) is picks
    assert keyframe_arguments()[-2:] == ["-h", "bsf=noise"]
