"""The card's scripts under busybox, with no more programs than a camera has; a whole one is in scripts/test-camera."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.peers.camera import REPOSITORY
from tests.peers.process import find_program

CARD = REPOSITORY / "sd" / "card"
BOOT = CARD / "yiagent" / "boot"
SCRIPTS = [CARD / "test" / "equip_test.sh", *sorted(BOOT.glob("*.sh"))]
INIT = REPOSITORY / "sd" / "emulator" / "root" / "home" / "init.sh"
APPLETS = REPOSITORY / "sd" / "emulator" / "applets"
# The block as the vendor has it.
BLOCK = '\nif [ -f "/home/hd1/test/equip_test.sh" ]; then\n\t/home/hd1/test/equip_test.sh\n\texit\nfi\n'


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the camera's programs, and no others."""
    folder = tmp_path_factory.mktemp("programs")
    busybox = find_program("busybox")
    text = "\n".join(line for line in APPLETS.read_text().splitlines() if not line.startswith("#"))
    for name in text.split():
        (folder / name).symlink_to(busybox)
    return folder


def _run(programs: Path, *command: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / command[0], *command[1:]],
        input=text,
        capture_output=True,
        text=True,
        env={"PATH": str(programs)},
        timeout=30,
    )


def _stock(programs: Path, init: str) -> subprocess.CompletedProcess[str]:
    """What is left of a start-up when the hook's block is left out."""
    return _run(programs, "awk", "-f", BOOT / "stock.awk", text=init)


# --- the stock start-up ---


def test_the_stock_start_up_is_what_follows_the_block(programs: Path) -> None:
    """Not a letter of it is changed."""
    text = INIT.read_text()
    assert BLOCK in text
    done = _stock(programs, text)
    assert done.returncode == 0
    assert done.stdout == text.partition(BLOCK)[2]


def test_variables_that_were_set_before_are_taken_along(programs: Path) -> None:
    """The rest may use them; what was done before the block is not done twice."""
    done = _stock(programs, f'model=47US\nmount tmpfs /tmp -t tmpfs\nnow=$(date)\nexport A="b"{BLOCK}echo $model\n')
    assert done.returncode == 0
    assert done.stdout == "model=47US\necho $model\n"


@pytest.mark.parametrize(
    "block",
    [
        BLOCK.replace('"', ""),
        BLOCK.replace("\n", "\r\n"),
        BLOCK.replace("exit", "exit 0"),
        BLOCK.replace("\t/home", "\tsh /home"),
        BLOCK.replace("]; then", "] ;then").replace("\texit", "\t# the hook does all\n\texit"),
    ],
)
def test_a_block_may_be_written_otherwise(programs: Path, block: str) -> None:
    """By its meaning it is the same."""
    done = _stock(programs, f"mount tmpfs /tmp\n{block}echo on\n")
    assert (done.returncode, done.stdout) == (0, "echo on\n")


@pytest.mark.parametrize(
    "init",
    [
        "",
        "mount tmpfs /tmp\necho on\n",
        BLOCK + BLOCK + "echo on\n",
        BLOCK.replace("\texit\n", "") + "echo on\n",
        BLOCK.replace("\texit", "\trm -rf /\n\texit") + "echo on\n",
        BLOCK.replace("fi\n", "else\n\techo off\nfi\n") + "echo on\n",
        BLOCK.replace("equip_test", "other_test") + "echo on\n",
        "start() {\n\t./rmm &\n}\n" + BLOCK + "start\n",
        "function start {\n\t./rmm &\n}\n" + BLOCK + "start\n",
        BLOCK + "/home/hd1/test/equip_test.sh\n",
        BLOCK.removesuffix("fi\n"),
    ],
)
def test_what_is_not_as_known_is_not_guessed_at(programs: Path, init: str) -> None:
    """Then the camera is started by all of its own start-up, and the agent stays off."""
    assert _stock(programs, init).returncode != 0


# --- the hook ---


class Camera:
    """A folder with what the hook finds in a camera, and the card's scripts with their paths led there."""

    def __init__(self, folder: Path, programs: Path, *, init: str, version: str = "1.8.5.1M_201512011815") -> None:
        self.folder = folder
        self._programs = programs
        self.card = folder / "hd1"
        for name in ("home", "hd1", "tmp"):
            (folder / name).mkdir()
        self._copy(CARD, self.card)
        # The keeper is for a camera: here it says only what it was called with.
        (self.card / "yiagent" / "boot" / "keeper.sh").write_text(f'echo "keeper|$1|$2" >>{folder}/said\n')
        (folder / "home" / "init.sh").write_text(self._led_here(init))
        (folder / "home" / "version").write_text(f"version={version}\r\n")

    def start(self) -> str:
        """Run the hook as the start-up does, and give what the camera and the keeper said."""
        hook = self.card / "test" / "equip_test.sh"
        done = _run(self._programs, "sh", hook)
        assert done.returncode == 0, done.stderr
        said = self.folder / "said"
        for _ in range(100):
            if said.exists() and "keeper" in said.read_text():
                break
            _run(self._programs, "usleep", "50000")
        return (said.read_text() if said.exists() else "") + done.stdout

    def _copy(self, source: Path, to: Path) -> None:
        for path in source.rglob("*"):
            target = to / path.relative_to(source)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self._led_here(path.read_text()))

    def _led_here(self, text: str) -> str:
        here = {"home": f"{self.folder}/home/", "tmp": f"{self.folder}/tmp/"}
        text = text.replace(r"\/home\/hd1", "CARD/ESCAPED").replace("/home/hd1", "CARD/")
        text = re.sub(r"(?<![\w/])/(home|tmp)/", lambda found: here[found[1]], text)
        escaped = f"{self.card}".replace("/", r"\/")
        return text.replace("CARD/ESCAPED", escaped).replace("CARD/", f"{self.card}")


STOCK = f"#\n{BLOCK}echo stock start-up"


def test_the_camera_starts_and_the_keeper_beside_it(tmp_path: Path, programs: Path) -> None:
    """With a firmware that is known, and nothing against it."""
    camera = Camera(tmp_path, programs, init=STOCK)
    said = camera.start()
    assert "stock start-up" in said
    assert f"keeper|{camera.card}|\n" in said


def test_an_unknown_firmware_is_started_without_the_agent(tmp_path: Path, programs: Path) -> None:
    """The keeper is told why, and how to have it run all the same."""
    said = Camera(tmp_path, programs, init=STOCK, version="2.1.1.6B_202001010000").start()
    assert "stock start-up" in said
    assert "2.1.1.6B_202001010000" in said
    assert "ALLOW_UNKNOWN" in said


@pytest.mark.parametrize("name", ["ALLOW_UNKNOWN", "ALLOW_UNKNOWN.txt"])
def test_the_owner_may_allow_an_unknown_firmware(tmp_path: Path, programs: Path, name: str) -> None:
    """Also with the ending that Windows adds, and hides."""
    camera = Camera(tmp_path, programs, init=STOCK, version="2.1.1.6B_202001010000")
    (camera.card / "yiagent" / name).write_text("")
    assert f"keeper|{camera.card}|\n" in camera.start()


def test_a_start_up_that_is_not_as_known_is_run_as_a_whole(tmp_path: Path, programs: Path) -> None:
    """With the hook's name put out of sight, so that it does not begin again for ever."""
    strange = "echo before\n" + BLOCK.replace("\texit\n", "\techo no exit\n\texit\n") + "echo stock start-up"
    said = Camera(tmp_path, programs, init=strange).start()
    assert "before\nstock start-up" in said
    assert "no exit" not in said
    assert "not as yiagent knows it" in said


def test_an_incomplete_card_starts_the_camera(tmp_path: Path, programs: Path) -> None:
    """Somebody copied half of it."""
    camera = Camera(tmp_path, programs, init=f"echo before\n{BLOCK}echo stock start-up")
    for path in (camera.card / "yiagent" / "boot").iterdir():
        path.unlink()
    done = _run(programs, "sh", camera.card / "test" / "equip_test.sh")
    assert done.stdout == "before\nstock start-up\n"


# --- the card ---


def test_the_card_touches_nothing_of_the_cameras(tmp_path: Path) -> None:
    """No firmware file, nothing at the card's top but the two folders, and no two names that FAT takes for one."""
    names = [path.relative_to(CARD) for path in CARD.rglob("*")]
    assert {name.parts[0] for name in names} == {"test", "yiagent"}
    assert [name for name in names if name.parts[0] == "test"] == [Path("test"), Path("test/equip_test.sh")]
    assert not [name for name in names if re.match(r"home$|rootfs|uImage|update", name.name, re.I)]
    assert len({str(name).lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", part) for name in names for part in name.parts)


def test_the_scripts_write_to_tmp_and_the_card_alone() -> None:
    """Every redirection, and every program that writes, by what stands in the script."""
    for path in SCRIPTS:
        for target in re.findall(r"(?<![0-9&<])>>?\s*(\S+)", re.sub(r"#.*", "", path.read_text())):
            allowed = (r'"?\$(console|problems|boots|place|stock|swap|queue|home)', r"/tmp/", r"/dev/null", r"&")
            assert re.match("|".join(allowed), target), f"{path.name}: > {target}"


def test_no_script_opens_a_door() -> None:
    """No telnet, no FTP, no name server of somebody else's: what the 2016 project left open."""
    for path in SCRIPTS:
        words = set(re.findall(r"[a-z]+", re.sub(r"#.*", "", path.read_text())))
        assert not words & {"telnetd", "tcpsvd", "ftpd", "httpd", "nc", "wget", "ftpget", "passwd", "chpasswd"}, (
            path.name
        )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_read_by_busybox(programs: Path, path: Path) -> None:
    """Its shell finds no fault in it."""
    done = _run(programs, "sh", "-n", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(path, os.R_OK)
