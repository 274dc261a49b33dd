#!/usr/bin/env bash
# Says something and prints the reply as it comes, with curl alone:
#
#   examples/curl/talk.sh 'Men are all alike.'
#
# CHAT_URL (http://localhost:3000), CHAT_USER and CHAT_PASSWORD (a new account without them), CHAT_MODEL.
# The reply survives a server that dies and comes back. Ctrl-C stops it.
set -euo pipefail

url=${CHAT_URL:-http://localhost:3000}
content=${1:-Men are all alike.}
token=

# string NAME: a field of the JSON that comes in, the first of its name.
string() { grep -o "\"$1\":\"\([^\"\\\\]\|\\\\.\)*\"" | head -n 1 | cut -d : -f 2- | sed 's/^"//; s/"$//'; }

fail() {
  echo "$1" >&2
  exit 1
}

[[ $url =~ ^https?://. ]] || fail "BAD_SETTING: CHAT_URL must be like http://localhost:3000, not $url."

# post PATH BODY [CURL'S OPTIONS…]: prints the answer, or ends with the server's own words.
post() {
  local path=$1 body=$2 answer status=0
  shift 2
  answer=$(curl -sS --max-time 30 --fail-with-body "$url$path" -H 'Content-Type: application/json' \
    ${token:+-H "Authorization: Bearer $token"} -d "$body" "$@" 2>/dev/null) || status=$?
  case $status in
    0) echo "$answer" ;;
    22)
      [[ $answer == *'"code":'* ]] || fail "NOT_THE_API: CHAT_URL, $url, is another server's."
      fail "$(string code <<<"$answer"): $(string message <<<"$answer")"
      ;;
    *) fail "NETWORK: No server answers at CHAT_URL, $url (curl's error $status)." ;;
  esac
}

# json TEXT: as a string of JSON.
json() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  echo "\"${text//$'\t'/\\t}\""
}

if [ -n "${CHAT_USER:-}" ]; then
  body="{\"username\":$(json "$CHAT_USER"),\"password\":$(json "${CHAT_PASSWORD:-}")}"
  signed_in=$(post /api/auth/login "$body")
else
  name=guest-$RANDOM$RANDOM$RANDOM
  body="{\"username\":\"$name\",\"email\":\"$name@example.org\",\"password\":\"$RANDOM-$RANDOM-$RANDOM\"}"
  signed_in=$(post /api/auth/register "$body")
fi
token=$(string token <<<"$signed_in")

chat=$(post /api/ai/chats "{${CHAT_MODEL:+\"model\":$(json "$CHAT_MODEL")}}")
messages=/api/ai/chats/$(string id <<<"$chat")/messages

# With a key of its own a message is stored once, however often it is sent.
turn=$(post "$messages" "{\"content\":$(json "$content")}" -H 'Prefer: respond-async' \
  -H "Idempotency-Key: $RANDOM$RANDOM$RANDOM" --retry 5 --retry-connrefused)
reply=$messages/$(string id <<<"${turn#*\"reply\":}")
trap 'curl -sS -o /dev/null -X POST "$url$reply/stop" -H "Authorization: Bearer $token"' INT

# The id of the last event says where to go on when the stream breaks.
last= record=
until [ -n "$record" ]; do
  while IFS= read -r line; do
    case $line in
      event:*) event=${line#event: } ;;
      id:*) last=${line#id: } ;;
      data:*)
        case $event in
          message-chunk)
            delta=$(string delta <<<"$line")
            printf %b "${delta//\\\"/\"}"
            ;;
          message) record=${line#data: } ;;
          error) fail "$(string code <<<"$line"): $(string message <<<"$line")" ;;
        esac
        ;;
    esac
  done < <(curl -sN "$url$reply/stream" -H "Authorization: Bearer $token" ${last:+-H "Last-Event-ID: $last"})
  [ -n "$record" ] || sleep 0.5
done
# The record is the truth: of a reply that another server went on with, parts may have been told twice.
text=$(string content <<<"$record")
printf '\n(%s)\n%b\n' "$(string status <<<"$record")" "${text//\\\"/\"}"
