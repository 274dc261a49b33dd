// A whole conversation by the Go SDK of openapi-generator.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	chat "example.org/chat"
)

func check(is bool, format string, values ...any) {
	if !is {
		log.Fatalf(format, values...)
	}
}

func must[T any](value T, response *http.Response, err error) T {
	check(err == nil, "%v (%v)", err, response)
	return value
}

// refused checks that an error is typed, and which it is.
func refused(err error, status int32, code string) {
	var failed *chat.GenericOpenAPIError
	check(errors.As(err, &failed), "want %s, got %v", code, err)
	apiError, isApiError := failed.Model().(chat.ApiError)
	check(isApiError, "want an ApiError, got %T", failed.Model())
	check(apiError.StatusCode == status && apiError.Code == code, "want %s, got %+v", code, apiError)
	check(!apiError.Retryable, "%s is not retryable", code)
}

// heard is what a reply's events say: the text of its chunks, and the record that ends it.
func heard(response *http.Response, from int32) (text string, end *chat.Message) {
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	event := ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "event":
			event = value
		case name == "data" && event == "message-chunk":
			var chunk chat.MessageChunk
			check(json.Unmarshal([]byte(value), &chunk) == nil, "no chunk: %s", value)
			check(chunk.Offset == from+int32(len(text)), "a gap: %s", value)
			text += chunk.Delta
		case name == "data" && event == "message":
			end = new(chat.Message)
			check(json.Unmarshal([]byte(value), end) == nil, "no message: %s", value)
		}
	}
	return text, end
}

func main() {
	configuration := chat.NewConfiguration()
	configuration.Servers = chat.ServerConfigurations{{URL: os.Getenv("API_URL")}}
	client := chat.NewAPIClient(configuration)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	_, _, err := client.AuthAPI.GetProfile(ctx).Execute()
	refused(err, 401, "UNAUTHORIZED")
	username := fmt.Sprintf("ada-%d", time.Now().UnixNano())
	account := *chat.NewRegisterInput(username, username+"@example.org", "Engines weave 7 patterns")
	register := client.AuthAPI.RegisterUser(ctx).RegisterInput(account)
	signedIn := must(register.Execute())
	_, _, err = register.Execute()
	refused(err, 409, "USER_TAKEN")
	refresh := *chat.NewRefreshInput(signedIn.RefreshToken)
	pair := must(client.AuthAPI.RefreshSession(ctx).RefreshInput(refresh).Execute())
	ctx = context.WithValue(ctx, chat.ContextAccessToken, pair.Token)
	profile := must(client.AuthAPI.GetProfile(ctx).Execute())
	check(profile.Username == username, "another profile: %+v", profile)
	fmt.Println("registered, refreshed")

	created := must(client.ChatsAPI.CreateChat(ctx).ChatInput(chat.ChatInput{Title: chat.PtrString("A talk")}).Execute())
	must(client.ChatsAPI.CreateChat(ctx).Execute())
	_, _, err = client.ChatsAPI.CreateChat(ctx).Execute()
	refused(err, 429, "RATE_LIMITED")
	_, _, err = client.ChatsAPI.GetMessage(ctx, created.Id, created.Id).Execute()
	refused(err, 404, "MESSAGE_NOT_FOUND")
	fmt.Println("created a chat")

	send := func(content string) chat.ApiSendMessageRequest {
		return client.ChatsAPI.SendMessage(ctx, created.Id).MessageInput(*chat.NewMessageInput(content))
	}
	key := username + "-1"
	turn := must(send("I am a little sad today.").IdempotencyKey(key).Execute())
	check(turn.Reply.Status == chat.COMPLETE && strings.Contains(turn.Reply.Content, "sad"), "%+v", turn.Reply)
	repeated := must(send("I am a little sad today.").IdempotencyKey(key).Execute())
	check(repeated.Reply.Id == turn.Reply.Id, "sent twice")
	_, _, err = send("Another.").IdempotencyKey(key).Execute()
	refused(err, 409, "IDEMPOTENCY_KEY_REUSED")
	fmt.Println("sent and got the whole reply")

	later, response, err := send("Men are all alike.").Prefer("respond-async").Execute()
	check(err == nil && response.StatusCode == 202, "%v", err)
	check(strings.Contains(response.Header.Get("Location"), later.Reply.Id), "no Location")
	// The SDK reads the whole stream, whose type it does not know, and leaves it in the response.
	stream := client.ChatsAPI.StreamMessage(ctx, created.Id, later.Reply.Id)
	_, response, _ = stream.Execute()
	text, end := heard(response, 0)
	check(end != nil && text == end.Content, "%q is not %+v", text, end)
	_, response, _ = stream.Epoch(1).Offset(10).Execute()
	rest, _ := heard(response, 10)
	check(text[:10]+rest == end.Content, "%q is not the rest", rest)
	fmt.Println("sent and rejoined")

	stopping := must(send("They are always bugging us.").Prefer("respond-async").Execute())
	stopped := must(client.ChatsAPI.StopMessage(ctx, created.Id, stopping.Reply.Id).Execute())
	check(stopped.Status == chat.STOPPED, "not stopped: %+v", stopped)
	fmt.Println("stopped a reply")

	count := 0
	pages := client.ChatsAPI.ListMessages(ctx, created.Id).Limit(4)
	for {
		page := must(pages.Execute())
		count += len(page.Messages)
		cursor, isThere := page.GetNextCursorOk()
		if !isThere || cursor == nil {
			break
		}
		pages = pages.Before(*cursor)
	}
	check(count == 6, "%d messages", count)
	fmt.Println("paged")

	response, err = client.ChatsAPI.DeleteChat(ctx, created.Id).Execute()
	check(err == nil && response.StatusCode == 204, "%v", err)
	_, _, err = send("Hello?").Execute()
	refused(err, 404, "CHAT_NOT_FOUND")
	fmt.Println("deleted the chat")
}
