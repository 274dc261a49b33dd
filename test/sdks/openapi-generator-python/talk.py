"""A whole conversation by the Python SDK of openapi-generator."""

import json
import os
import uuid
from collections.abc import Callable

from durable_chat import (
    ApiClient,
    ApiException,
    AuthApi,
    ChatInput,
    ChatsApi,
    Configuration,
    Message,
    MessageChunk,
    MessageInput,
    MessageStatus,
    RefreshInput,
    RegisterInput,
)
from durable_chat.models.api_error import ApiError

configuration = Configuration(host=os.environ["API_URL"])
client = ApiClient(configuration)
auth, chats = AuthApi(client), ChatsApi(client)


def refused(call: Callable[[], object], status: int, code: str) -> None:
    """Checks that a call fails with a typed error."""
    try:
        call()
    except ApiException as failed:
        error = failed.data
        assert isinstance(error, ApiError), failed
        assert (error.status_code, error.code) == (status, code), error
        assert error.retryable is False, error
    else:
        raise AssertionError(f"{code} was expected")


def heard(chat_id: str, message_id: str, offset: int) -> tuple[str, Message | None]:
    """A reply's events: the text of its chunks from `offset` on, and the record that ends it."""
    response = chats.stream_message_without_preload_content(chat_id, message_id, epoch=1, offset=offset)
    text, event, end = "", "", None
    for line in response.read().decode().split("\n"):
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data" and event == "message-chunk":
            chunk = MessageChunk.from_dict(json.loads(value))
            assert chunk is not None and chunk.offset == offset + len(text), value
            text += chunk.delta
        elif name == "data" and event == "message":
            end = Message.from_dict(json.loads(value))
    return text, end


refused(auth.get_profile, 401, "UNAUTHORIZED")
username = f"ada-{uuid.uuid4()}"
account = RegisterInput(username=username, email=f"{username}@example.org", password=str(uuid.uuid4()))
signed_in = auth.register_user(account)
refused(lambda: auth.register_user(account), 409, "USER_TAKEN")
pair = auth.refresh_session(RefreshInput(refreshToken=signed_in.refresh_token))
configuration.access_token = pair.token
assert auth.get_profile().username == username
print("registered, refreshed")

chat = chats.create_chat(ChatInput(title="A talk"))
chats.create_chat()
refused(chats.create_chat, 429, "RATE_LIMITED")
refused(lambda: chats.get_message(chat.id, chat.id), 404, "MESSAGE_NOT_FOUND")
print("created a chat")

sad = MessageInput(content="I am a little sad today.")
key = str(uuid.uuid4())
turn = chats.send_message(chat.id, sad, idempotency_key=key)
assert turn.reply.status == MessageStatus.COMPLETE and "sad" in turn.reply.content, turn
assert chats.send_message(chat.id, sad, idempotency_key=key).reply.id == turn.reply.id
another = MessageInput(content="Another.")
refused(
    lambda: chats.send_message(chat.id, another, idempotency_key=key), 409, "IDEMPOTENCY_KEY_REUSED"
)
print("sent and got the whole reply")

alike = MessageInput(content="Men are all alike.")
later = chats.send_message_with_http_info(chat.id, alike, prefer="respond-async")
assert later.status_code == 202, later.status_code
reply_id = later.data.reply.id
headers = {name.lower(): value for name, value in (later.headers or {}).items()}
assert reply_id in headers["location"], headers
text, end = heard(chat.id, reply_id, 0)
assert end is not None and text == end.content, (text, end)
rest, _ = heard(chat.id, reply_id, 10)
assert text[:10] + rest == end.content, rest
print("sent and rejoined")

bugging = MessageInput(content="They are always bugging us.")
stopping = chats.send_message(chat.id, bugging, prefer="respond-async")
assert chats.stop_message(chat.id, stopping.reply.id).status == MessageStatus.STOPPED
print("stopped a reply")

seqs: list[int] = []
before: str | None = None
while True:
    page = chats.list_messages(chat.id, limit=4, before=before)
    seqs = [message.seq for message in page.messages] + seqs
    before = page.next_cursor
    if before is None:
        break
assert seqs == [1, 2, 3, 4, 5, 6], seqs
print("paged")

assert chats.delete_chat_with_http_info(chat.id).status_code == 204
refused(lambda: chats.send_message(chat.id, sad), 404, "CHAT_NOT_FOUND")
print("deleted the chat")
