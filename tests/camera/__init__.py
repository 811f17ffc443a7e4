"""A whole camera, emulated: what `sd/emulator/build` makes, as a peer of a test.

with EmulatedCamera(tmp_path / "camera", card=folder_with_the_cards_content) as camera:
    camera.wait_for_process("rmm")
    before = camera.files()
    camera.run("killall led_ctl")
    camera.power_cycle()
    assert camera.files() == before
assert camera.card.read("yiagent-problems.txt") == b""
"""

from tests.camera.card import CardImage
from tests.camera.figures import CpuTime, FileEntry, MachineCpu, MachineMemory, ProcessMemory
from tests.camera.machine import HOST, INIT, EmulatedCamera

__all__ = [
    "HOST",
    "INIT",
    "CardImage",
    "CpuTime",
    "EmulatedCamera",
    "FileEntry",
    "MachineCpu",
    "MachineMemory",
    "ProcessMemory",
]
