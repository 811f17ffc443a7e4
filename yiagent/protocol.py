"""Which MQTT the broker is spoken to in: 5 where it speaks that, else 3.1.1. Decided from how connections end."""

from __future__ import annotations

from yiagent.broker import Ended


class Version:
    """The version of the next connection: `mqtt5`; and `is_doubtful`, where it is only to be seen whether it is let in.

    An old broker says so, or hangs up. One that is just being started hangs up as well, and would then be spoken to in
    3.1.1 for months: so a mere hang-up counts only when 3.1.1 is let in after it and 5 is hung up on once more.
    """

    def __init__(self) -> None:
        self.mqtt5 = True
        self.is_doubtful = False
        self._let_in = False

    def try_another(self, how: Ended, *, accepted: bool) -> bool:
        """A connection has ended: choose the next one's version; whether to make it at once, and not say a word."""
        tried5, left, let_in = self.mqtt5, self.is_doubtful and accepted, self._let_in
        self.mqtt5, self.is_doubtful, self._let_in = True, False, False
        if left:
            self._let_in = True
            return True
        if not tried5 or accepted or how not in (Ended.OLD_PROTOCOL, Ended.HUNG_UP):
            return False
        self.mqtt5 = False
        self.is_doubtful = how is Ended.HUNG_UP and not let_in
        return True
