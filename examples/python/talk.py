"""
Says something and prints the reply as it comes, with python-socketio:

  pip install -r examples/python/requirements.txt
  python3 examples/python/talk.py 'Men are all alike.'

CHAT_URL (http://localhost:3000), CHAT_USER and CHAT_PASSWORD (a new account without them), CHAT_MODEL.
The reply survives a server that dies and comes back. Ctrl-C stops it.
"""

import os
import sys
import threading
import time
import uuid

import requests
import socketio

from chat_follower import ChatFollower

URL = os.environ.get("CHAT_URL", "http://localhost:3000").rstrip("/")
USER, PASSWORD = os.environ.get("CHAT_USER"), os.environ.get("CHAT_PASSWORD", "")
MODEL = os.environ.get("CHAT_MODEL")


class Failure(Exception):
    def __init__(self, code, message, retryable=False):
        super().__init__(f"{code}: {message}")
        self.code, self.retryable = code, retryable


def failure_of(error):
    return Failure(error["code"], error["message"], error.get("retryable", False))


class Session:
    """The tokens, which this class alone renews."""

    def __init__(self):
        self.tokens = {}
        self.renewing = threading.Lock()
        if USER:
            self.tokens = self.post("/api/auth/login", {"username": USER, "password": PASSWORD})
        else:
            name = f"guest-{uuid.uuid4().hex[:8]}"
            email, password = f"{name}@example.org", str(uuid.uuid4())
            account = {"username": name, "email": email, "password": password}
            self.tokens = self.post("/api/auth/register", account)

    @property
    def token(self):
        return self.tokens["token"]

    def refresh(self):
        """A spent token may be sent again within ten seconds, so a lost answer harms nobody."""
        with self.renewing:
            body = {"refreshToken": self.tokens["refreshToken"]}
            self.tokens = until_answered(lambda: self.post("/api/auth/refresh", body))

    def post(self, path, body):
        headers = {"authorization": f"Bearer {self.token}"} if self.tokens else {}
        try:
            answer = requests.post(URL + path, json=body, headers=headers, timeout=10)
        except requests.exceptions.RequestException:
            raise Failure("NETWORK", f"No server answers at CHAT_URL, {URL}.", True) from None
        try:
            json = answer.json()
        except ValueError:
            json = {}
        if answer.ok:
            return json
        if "code" in json:
            raise failure_of(json)
        raise Failure("NOT_THE_API", f"CHAT_URL, {URL}, is another server's.")


def until_answered(attempt):
    """Says it again until the server has answered for good."""
    while True:
        try:
            return attempt()
        except Failure as failure:
            if not failure.retryable:
                raise
        time.sleep(0.5)


def talk(content):
    if not URL.startswith(("http://", "https://")):
        raise Failure("BAD_SETTING", f"CHAT_URL must be like http://localhost:3000, not {URL}.")
    session = Session()
    chat = session.post("/api/ai/chats", {"model": MODEL} if MODEL else {})
    socket = socketio.Client(reconnection_delay=0.2, reconnection_delay_max=2, handle_sigint=False)
    over = threading.Event()
    outcome = {"printed": "", "reply": None, "failure": None}

    def fail(failure):
        outcome["failure"] = failure
        over.set()

    def ask(event, payload):
        try:
            answer = socket.call(event, payload, timeout=5)
        except socketio.exceptions.SocketIOError:
            raise Failure("NETWORK", "The connection broke.", True) from None
        if not answer["ok"]:
            raise failure_of(answer["error"])
        return answer

    def show(reply, id):
        outcome["reply"] = id
        if reply.position:
            print(f"in the queue: {reply.position}", file=sys.stderr)
        # What was printed may have been replaced by another server's run.
        if not reply.text.startswith(outcome["printed"]):
            outcome["printed"] = ""
            print()
        print(reply.text[len(outcome["printed"]) :], end="", flush=True)
        outcome["printed"] = reply.text
        if reply.ended:
            print(f"\n({reply.status})", flush=True)
            if reply.status not in ("complete", "stopped"):
                outcome["failure"] = Failure("REPLY", f"The reply ended as {reply.status}.")
            over.set()

    def join(payload, answered):
        socket.emit("join-chat", payload, callback=answered)

    follower = ChatFollower(chat["id"], join, show, lambda error: fail(failure_of(error)))
    socket.on("connect", follower.on_connect)
    socket.on("disconnect", lambda *_: follower.on_disconnect())

    @socket.on("*")
    def on_event(name, payload):
        follower.on_event(name, payload)

    @socket.on("session-ended")
    def on_session_ended(payload):
        fail(Failure(payload["code"], "The session has ended."))

    def refresh():
        try:
            session.refresh()
        except Failure as failure:
            fail(failure)

    def renew():
        refresh()
        try:
            ask("authenticate", {"token": session.token})
        except Failure:
            pass  # the socket is closed then, and connects with the new token

    @socket.on("token-expiring")
    def on_token_expiring(_payload):
        # Answers are read by the thread that this handler runs in.
        threading.Thread(target=renew, daemon=True).start()

    @socket.on("connect_error")
    def on_connect_error(error):
        data = error.get("data", {}) if isinstance(error, dict) else {}
        if data.get("code") == "TOKEN_EXPIRED":
            refresh()
        elif data and not data.get("retryable"):
            fail(failure_of(data))

    def connect():
        try:
            socket.connect(URL, auth=lambda: {"token": session.token}, transports=["websocket"])
        except socketio.exceptions.ConnectionError:
            raise outcome["failure"] or Failure("NETWORK", "No socket opens.", True) from None

    until_answered(connect)
    try:
        message = {"chatId": chat["id"], "content": content, "clientMessageId": str(uuid.uuid4())}
        until_answered(lambda: ask("chat-message", message))
        while not over.wait(0.2):
            pass
    except KeyboardInterrupt:
        if outcome["reply"]:
            ask("stop-message", {"chatId": chat["id"], "messageId": outcome["reply"]})
            over.wait(5)
    finally:
        socket.disconnect()
    if outcome["failure"]:
        raise outcome["failure"]


try:
    talk(sys.argv[1] if len(sys.argv) > 1 else "Men are all alike.")
except Failure as failure:
    sys.exit(str(failure))
