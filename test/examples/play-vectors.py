"""Plays the vectors of docs/vectors, given as files, to the Python example; prints what went wrong."""

import json
import sys

from chat_follower import ChatFollower, Reply


class Played:
    def __init__(self, name, vector):
        self.name = f"{name}: {vector['name']}"
        self.joins, self.refusals, self.faults = [], [], []
        self.follower = ChatFollower(
            vector["chatId"],
            lambda payload, answered: self.joins.append((payload, answered)),
            lambda *_: None,
            lambda error: self.refusals.append(error["code"]),
        )
        for index, step in enumerate(vector["steps"]):
            self.play(f"step {index}, {step['step']}", step)
        self.compare("the end", [payload for payload, _ in self.joins], [])
        self.compare("the end", self.refusals, [])

    def compare(self, at, found, wanted):
        if found != wanted:
            self.faults.append(f"{self.name}: {at}: {found} and not {wanted}")

    def play(self, at, step):
        kind = step["step"]
        if kind == "connect":
            self.follower.on_connect()
        elif kind == "disconnect":
            self.follower.on_disconnect()
        elif kind == "event":
            self.follower.on_event(step["event"], step["payload"])
        elif kind == "join":
            self.await_join()
            payload, self.answered = self.joins.pop(0) if self.joins else (None, None)
            self.compare(at, payload, step["payload"])
        elif kind == "ack":
            self.answered(step["answer"])
        elif kind == "refused":
            self.compare(at, self.refusals[:1], [step["code"]])
            del self.refusals[:1]
        elif kind == "expect":
            reply = self.follower.replies.get(step["messageId"]) or Reply(None)
            for field in ("text", "thinking", "status", "position"):
                if field in step:
                    self.compare(at, getattr(reply, field), step[field])

    def await_join(self):
        """A join that follows a refusal comes after a pause."""
        import time

        deadline = time.monotonic() + 10
        while not self.joins and time.monotonic() < deadline:
            time.sleep(0.01)


played = []
for file in sys.argv[1:]:
    with open(file, encoding="utf-8") as opened:
        for vector in json.load(opened)["vectors"]:
            if vector["transport"] == "socket":
                played.append(Played(file.rsplit("/", 1)[-1], vector))
faults = [fault for one in played for fault in one.faults]
print(json.dumps({"played": len(played), "faults": faults}))
