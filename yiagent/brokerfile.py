"""The broker that was set on the page, kept in a file beside the intent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from yiagent.brokerchoice import BrokerChoice, ChoiceUnreadable, read_choice, render_choice
from yiagent.files import remove_file, replace_file, set_aside
from yiagent.settings import MqttConfig

FILE_NAME: Final = "broker.json"
MAX_FILE_BYTES: Final = 16 * 1024


class BrokerFile:
    """The choice in one folder; there is none where there is no file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def load(self) -> BrokerChoice | None:
        """The choice on disk; None where the configuration's broker holds. Raises `ChoiceUnreadable`."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ChoiceUnreadable(f"it cannot be read: {error.strerror}") from None
        return read_choice(data)

    def save(self, choice: BrokerChoice | None) -> None:
        """Make `choice` the one on disk; None removes it. Raises `OSError`; the old one then stays."""
        if choice is None:
            remove_file(self.path)
        else:
            replace_file(self.path, render_choice(choice))

    def set_aside(self) -> Path | None:
        """Rename an unreadable file; its new name, or None where that failed."""
        return set_aside(self.path)


def chosen_broker(configured: MqttConfig, folder: Path) -> MqttConfig:
    """The broker that holds: the page's where one is saved and can be read, else the configuration's."""
    try:
        choice = BrokerFile(folder).load()
    except ChoiceUnreadable:
        choice = None
    return choice.over(configured) if choice is not None else configured
