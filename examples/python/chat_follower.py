"""Keeps the replies of one chat right over a socket that may break: docs/protocol.md as code."""

import threading

UNIT = 2  # bytes of a UTF-16 code unit


class Reply:
    """One reply. Offsets count UTF-16 units, so its text is kept as such."""

    def __init__(self, rejoin):
        self.rejoin = rejoin
        self.units = self.thought = b""
        self.status = "queued"
        self.position = None
        self.epoch = 0  # the run that the whole text belongs to; 0 before the first frame
        self.joining = False  # a join waits for its answer, which will have what comes meanwhile

    @property
    def text(self):
        return self.units.decode("utf-16-le", "surrogatepass")

    @property
    def thinking(self):
        return self.thought.decode("utf-16-le", "surrogatepass")

    @property
    def offset(self):
        return len(self.units) // UNIT

    @property
    def ended(self):
        return self.status not in ("queued", "streaming")

    def on_chunk(self, frame):
        epoch, start = frame["epoch"], frame["offset"] * UNIT
        known = self.thought if frame.get("thinking") else self.units
        if self.ended or self.joining or epoch < self.epoch:
            return
        if start > len(known):  # frames were lost
            return self.rejoin(self)
        delta = encoded(frame["delta"])
        is_new_run = epoch > self.epoch
        following = known[:start] + delta if is_new_run else known + delta[len(known) - start :]
        if frame.get("thinking"):
            self.thought = following
        else:
            self.units = following
        self.status, self.position = "streaming", None
        if is_new_run and self.epoch > 0:  # it may have begun before this frame
            self.rejoin(self)
        else:
            self.epoch = epoch

    def on_active(self, answer):
        if self.ended:
            return
        epoch, offset = answer["epoch"], answer["offset"]
        # Whole runs were missed: nothing of the old text is sure.
        if offset > self.offset or (offset > 0 and epoch > self.epoch + 1):
            self.units = self.thought = b""
            self.epoch = 0
            return self.rejoin(self)
        self.units = self.units[: offset * UNIT] + encoded(answer["text"])
        self.thought = encoded(answer.get("thinking", ""))
        self.epoch, self.status = epoch, answer["status"]
        self.position = answer.get("position")

    def on_start(self, start):
        if not self.ended and start["epoch"] >= self.epoch:
            self.status, self.position = start["status"], start.get("position")

    def on_message(self, message):
        self.units = encoded(message["content"])
        self.thought = encoded(message.get("thinking", ""))
        self.status, self.position = message["status"], None


def encoded(text):
    return text.encode("utf-16-le", "surrogatepass")


class ChatFollower:
    """
    join(payload, answered) sends `join-chat` and calls answered(acknowledgement);
    show(reply, id) is called whenever a reply changed;
    refuse(error) is told of an error after which nothing comes any more.
    """

    def __init__(self, chat_id, join, show, refuse):
        self.chat_id, self.join, self.show, self.refuse = chat_id, join, show, refuse
        self.replies = {}
        self.connection = 0
        self.is_refused = False
        self.lock = threading.RLock()

    def on_connect(self):
        with self.lock:
            if self.is_refused:
                return
            unfinished = [entry for entry in self.replies.items() if not entry[1].ended]
            for id, reply in unfinished:
                self.rejoin(id, reply)
            if not unfinished:
                self.ask({"chatId": self.chat_id})

    def on_disconnect(self):
        with self.lock:
            self.connection += 1  # answers that have not come never will
            for reply in self.replies.values():
                reply.joining = False

    def on_event(self, name, payload):
        with self.lock:
            is_here = isinstance(payload, dict) and payload.get("chatId") == self.chat_id
            if self.is_refused or not is_here:
                return
            if name == "chat-deleted":
                error = {"code": "CHAT_NOT_FOUND", "message": "The chat was deleted."}
                return self.refused(error)
            id = payload.get("messageId") or payload.get("id")
            if name == "message-chunk":
                self.reply(id).on_chunk(payload)
            elif name == "message-start":
                self.reply(id).on_start(payload)
            elif name == "message" and payload["role"] == "assistant":
                self.reply(id).on_message(payload)
            else:
                return
            self.show(self.reply(id), id)

    def reply(self, id):
        if id not in self.replies:
            self.replies[id] = Reply(lambda reply: self.rejoin(id, reply))
        return self.replies[id]

    def rejoin(self, id, reply):
        reply.joining = True
        place = {"epoch": max(reply.epoch, 1), "offset": reply.offset}
        self.ask({"chatId": self.chat_id, "messageId": id, **place})

    def ask(self, payload):
        connection = self.connection
        timer = threading.Timer(5, lambda: again())
        timer.daemon = True

        def again():
            with self.lock:
                if connection == self.connection:
                    self.ask(payload)

        def answered(answer):
            with self.lock:
                timer.cancel()
                if connection != self.connection:
                    return
                if answer["ok"]:
                    self.joined(payload.get("messageId"), answer["active"])
                elif answer["error"]["retryable"]:
                    threading.Timer(0.5, again).start()
                else:
                    self.refused(answer["error"])

        timer.start()
        self.join(payload, answered)

    def joined(self, id, active):
        if id:
            self.reply(id).joining = False
        for answer in active:
            # Another reply that has text already is left to its own join.
            if answer["messageId"] in self.replies and answer["messageId"] != id:
                continue
            reply = self.reply(answer["messageId"])
            reply.on_active(answer)
            self.show(reply, answer["messageId"])

    def refused(self, error):
        self.is_refused = True
        self.refuse(error)
