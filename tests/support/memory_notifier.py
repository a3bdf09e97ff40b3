"""`MemoryNotifier`: a `Notifier` that keeps its messages, and fails when it is told to."""

from __future__ import annotations

from backups.decisions.alarms import Message
from backups.vocabulary.receivers import Receiver, receivers_of


class MemoryNotifier:
    """Counts heartbeats too. While `works` is False, nobody is reached."""

    receivers = receivers_of(["memory://"])

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.attempts = 0
        self.heartbeats = 0
        self.works = True

    def send(self, receiver: Receiver, message: Message) -> bool:
        """See `Notifier.send`."""
        self.attempts += 1
        if self.works:
            self.messages.append(message)
        return self.works

    def heartbeat(self) -> bool:
        """See `Notifier.heartbeat`."""
        self.heartbeats += 1
        return True

    def titles(self) -> list[str]:
        """What the messages are about: the code, or `well`, `back`, `done`, `test`."""
        return [_topic(message) for message in self.messages]


def _topic(message: Message) -> str:
    if message.title.startswith("Backup problem"):
        return message.title.rpartition(": ")[2]
    for beginning, topic in (
        ("Backups on ", "well"),
        ("The database is back", "back"),
        ("Backup done", "done"),
        ("Test message", "test"),
    ):
        if message.title.startswith(beginning):
            return topic
    raise AssertionError(message.title)
