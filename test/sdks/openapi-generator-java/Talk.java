import chat.durable.client.ApiClient;
import chat.durable.client.ApiException;
import chat.durable.client.ApiResponse;
import chat.durable.client.api.AuthApi;
import chat.durable.client.api.ChatsApi;
import chat.durable.client.model.*;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/** A whole conversation by the Java SDK of openapi-generator, over java.net.http. */
public class Talk {
  private static final String apiUrl = System.getenv("API_URL");
  private static String token;
  private static final ApiClient client =
      new ApiClient()
          .setRequestInterceptor(
              request -> {
                if (token != null) request.header("Authorization", "Bearer " + token);
              });

  private interface Call {
    Object run() throws ApiException;
  }

  private static void check(boolean is, Object what) {
    if (!is) throw new AssertionError(what);
  }

  /** Checks that a call fails with an error of the SDK's own model. */
  private static void refused(Call call, int status, String code) throws Exception {
    try {
      call.run();
    } catch (ApiException failed) {
      ApiError error = client.getObjectMapper().readValue(failed.getResponseBody(), ApiError.class);
      check(failed.getCode() == status && error.getStatusCode() == status, failed);
      check(error.getCode().equals(code) && !error.getRetryable(), error);
      return;
    }
    throw new AssertionError(code + " was expected");
  }

  private static MessageInput says(String content) {
    return new MessageInput().content(content);
  }

  private record Heard(String text, Message end) {}

  /** A reply's events by the SDK's HTTP client and models: its operations read JSON alone. */
  private static Heard heard(String path, int from, int stopAt) throws Exception {
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(apiUrl + path + "/stream?epoch=1&offset=" + from))
            .header("Authorization", "Bearer " + token)
            .build();
    StringBuilder text = new StringBuilder();
    String event = "";
    try (var lines = client.getHttpClient().send(request, BodyHandlers.ofLines()).body()) {
      for (String line : (Iterable<String>) lines::iterator) {
        if (line.startsWith("event: ")) event = line.substring(7);
        if (!line.startsWith("data: ")) continue;
        String data = line.substring(6);
        if (event.equals("message-chunk")) {
          MessageChunk chunk = client.getObjectMapper().readValue(data, MessageChunk.class);
          check(chunk.getOffset() == from + text.length(), data);
          text.append(chunk.getDelta());
          if (text.length() >= stopAt) break;
        } else if (event.equals("message")) {
          Message end = client.getObjectMapper().readValue(data, Message.class);
          return new Heard(text.toString(), end);
        }
      }
    }
    return new Heard(text.toString(), null);
  }

  public static void main(String[] arguments) throws Exception {
    client.updateBaseUri(apiUrl);
    AuthApi auth = new AuthApi(client);
    ChatsApi chats = new ChatsApi(client);

    refused(auth::getProfile, 401, "UNAUTHORIZED");
    String username = "ada-" + UUID.randomUUID();
    RegisterInput account =
        new RegisterInput()
            .username(username)
            .email(username + "@example.org")
            .password(UUID.randomUUID().toString());
    SignedIn signedIn = auth.registerUser(account);
    refused(() -> auth.registerUser(account), 409, "USER_TAKEN");
    RefreshInput refresh = new RefreshInput().refreshToken(signedIn.getRefreshToken());
    token = auth.refreshSession(refresh).getToken();
    check(auth.getProfile().getUsername().equals(username), "another profile");
    System.out.println("registered, refreshed");

    Chat chat = chats.createChat(new ChatInput().title("A talk"));
    String chatId = chat.getId();
    chats.createChat(null);
    refused(() -> chats.createChat(null), 429, "RATE_LIMITED");
    refused(() -> chats.getMessage(chatId, chatId), 404, "MESSAGE_NOT_FOUND");
    System.out.println("created a chat");

    String key = UUID.randomUUID().toString();
    Turn turn = chats.sendMessage(chatId, says("I am a little sad today."), key, null);
    check(turn.getReply().getStatus() == MessageStatus.COMPLETE, turn);
    check(turn.getReply().getContent().contains("sad"), turn);
    Turn again = chats.sendMessage(chatId, says("I am a little sad today."), key, null);
    check(again.getReply().getId().equals(turn.getReply().getId()), again);
    refused(
        () -> chats.sendMessage(chatId, says("Another."), key, null),
        409,
        "IDEMPOTENCY_KEY_REUSED");
    System.out.println("sent and got the whole reply");

    ApiResponse<Turn> later =
        chats.sendMessageWithHttpInfo(chatId, says("Men are all alike."), null, "respond-async");
    check(later.getStatusCode() == 202, later);
    String replyId = later.getData().getReply().getId();
    check(later.getHeaders().get("location").get(0).contains(replyId), later.getHeaders());
    String path = "/api/ai/chats/" + chatId + "/messages/" + replyId;
    String begun = heard(path, 0, 10).text();
    Heard rest = heard(path, begun.length(), Integer.MAX_VALUE);
    check((begun + rest.text()).equals(rest.end().getContent()), rest);
    System.out.println("sent, left and rejoined");

    Turn stopping =
        chats.sendMessage(chatId, says("They are always bugging us."), null, "respond-async");
    Message stopped = chats.stopMessage(chatId, stopping.getReply().getId());
    check(stopped.getStatus() == MessageStatus.STOPPED, stopped);
    System.out.println("stopped a reply");

    List<Integer> seqs = new ArrayList<>();
    String before = null;
    do {
      MessageList page = chats.listMessages(chatId, 4, before);
      seqs.addAll(0, page.getMessages().stream().map(Message::getSeq).toList());
      before = page.getNextCursor();
    } while (before != null);
    check(seqs.equals(List.of(1, 2, 3, 4, 5, 6)), seqs);
    System.out.println("paged");

    check(chats.deleteChatWithHttpInfo(chatId).getStatusCode() == 204, "not deleted");
    refused(
        () -> chats.sendMessage(chatId, says("Hello?"), null, null), 404, "CHAT_NOT_FOUND");
    System.out.println("deleted the chat");
  }
}
