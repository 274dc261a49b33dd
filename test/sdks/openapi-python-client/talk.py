"""A whole conversation by the SDK of openapi-python-client."""

import json
import os
import uuid
from typing import TypeVar

from durable_chat_client import AuthenticatedClient, Client
from durable_chat_client.api.auth import get_profile, refresh_session, register_user
from durable_chat_client.api.chats import (
    create_chat,
    delete_chat,
    get_message,
    list_messages,
    send_message,
    stop_message,
)
from durable_chat_client.models import (
    ApiError,
    ChatInput,
    Message,
    MessageChunk,
    MessageInput,
    MessageStatus,
    RefreshInput,
    RegisterInput,
)
from durable_chat_client.types import UNSET, Unset

base_url = os.environ["API_URL"]
anonymous = Client(base_url=base_url)
T = TypeVar("T")


def refused(error: object, status: int, code: str) -> None:
    """Checks that an answer is a typed error."""
    assert isinstance(error, ApiError), error
    assert (error.status_code, error.code) == (status, code), error
    assert error.retryable is False, error


def given(answer: T | ApiError | None) -> T:
    """An answer that must not be an error."""
    assert answer is not None and not isinstance(answer, ApiError), answer
    return answer


refused(get_profile.sync(client=AuthenticatedClient(base_url=base_url, token="none")), 401, "UNAUTHORIZED")
username = f"ada-{uuid.uuid4()}"
account = RegisterInput(username=username, email=f"{username}@example.org", password=str(uuid.uuid4()))
signed_in = given(register_user.sync(client=anonymous, body=account))
refused(register_user.sync(client=anonymous, body=account), 409, "USER_TAKEN")
refresh = RefreshInput(refresh_token=signed_in.refresh_token)
pair = given(refresh_session.sync(client=anonymous, body=refresh))
client = AuthenticatedClient(base_url=base_url, token=pair.token)
assert given(get_profile.sync(client=client)).username == username
print("registered, refreshed")

chat = given(create_chat.sync(client=client, body=ChatInput(title="A talk")))
given(create_chat.sync(client=client))
refused(create_chat.sync(client=client), 429, "RATE_LIMITED")
refused(get_message.sync(chat.id, chat.id, client=client), 404, "MESSAGE_NOT_FOUND")
print("created a chat")

sad = MessageInput(content="I am a little sad today.")
key = str(uuid.uuid4())
turn = given(send_message.sync(chat.id, client=client, body=sad, idempotency_key=key))
assert turn.reply.status == MessageStatus.COMPLETE and "sad" in turn.reply.content, turn
again = given(send_message.sync(chat.id, client=client, body=sad, idempotency_key=key))
assert again.reply.id == turn.reply.id
another = MessageInput(content="Another.")
refused(
    send_message.sync(chat.id, client=client, body=another, idempotency_key=key),
    409,
    "IDEMPOTENCY_KEY_REUSED",
)
print("sent and got the whole reply")


def heard(
    method: str, path: str, offset: int, body: MessageInput | None = None, stop_at: int | None = None
) -> tuple[str, Message | None]:
    """A reply's events by the SDK's HTTP client: its text from `offset` on, and the record that ends it."""
    text, event = "", ""
    with client.get_httpx_client().stream(
        method,
        path,
        headers={"Accept": "text/event-stream"},
        params={} if body else {"epoch": 1, "offset": offset},
        json=body.to_dict() if body else None,
    ) as response:
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == "message-chunk":
                chunk = MessageChunk.from_dict(json.loads(value))
                assert chunk.offset == offset + len(text), value
                text += chunk.delta
                if stop_at is not None and len(text) >= stop_at:
                    break
            elif name == "data" and event == "message":
                message = Message.from_dict(json.loads(value))
                if message.role == "assistant":
                    return text, message
    return text, None


messages = f"/api/ai/chats/{chat.id}/messages"
text, end = heard("POST", messages, 0, MessageInput(content="My computer never listens to me."))
assert end is not None and end.content == text, (text, end)
print("sent and heard the reply as it grew")

alike = MessageInput(content="Men are all alike.")
later = send_message.sync_detailed(chat.id, client=client, body=alike, prefer="respond-async")
assert later.status_code == 202, later
reply_id = given(later.parsed).reply.id
assert reply_id in later.headers["Location"], later.headers
begun, _ = heard("GET", f"{messages}/{reply_id}/stream", 0, stop_at=10)
rest, end = heard("GET", f"{messages}/{reply_id}/stream", len(begun))
assert end is not None and begun + rest == end.content, (begun, rest, end)
print("sent, left and rejoined")

bugging = MessageInput(content="They are always bugging us.")
stopping = given(send_message.sync(chat.id, client=client, body=bugging, prefer="respond-async"))
stopped = given(stop_message.sync(chat.id, stopping.reply.id, client=client))
assert stopped.status == MessageStatus.STOPPED, stopped
print("stopped a reply")

seqs: list[int] = []
before: str | Unset = UNSET
while True:
    page = given(list_messages.sync(chat.id, client=client, limit=3, before=before))
    seqs = [message.seq for message in page.messages] + seqs
    if page.next_cursor is None:
        break
    before = page.next_cursor
assert seqs == [1, 2, 3, 4, 5, 6, 7, 8], seqs
print("paged")

assert delete_chat.sync_detailed(chat.id, client=client).status_code == 204
refused(send_message.sync(chat.id, client=client, body=sad), 404, "CHAT_NOT_FOUND")
print("deleted the chat")
