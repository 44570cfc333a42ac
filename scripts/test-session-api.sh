#!/bin/sh
# Tries a running session service out: health, list, create, fetch, rename, delete.
#
#   scripts/test-session-api.sh [URL]     the service; http://localhost:8080 unless given
#
# Ends with 1 at the first answer that is not as it has to be. The session that it makes is taken away again, whatever
# happens. SESSION_TOKEN, else OS_SECURITY_KEY, in the environment is sent as the bearer. Needs curl, nothing else.
set -eu

base=${1:-http://localhost:8080}
base=${base%/}
id="smoke-$(date +%s)-$$"
made=""
status=""
body=""

# Read by curl from its standard input: in its arguments every user of the machine could see the key.
bearer=$(printf '%s' "${SESSION_TOKEN:-${OS_SECURITY_KEY:-}}" | sed 's/[\\"]/\\&/g')
settings=${bearer:+"header = \"Authorization: Bearer $bearer\""}

fail() {
    printf 'FAIL %s\n' "$*" >&2
    exit 1
}

# METHOD PATH [BODY]: the answer's $status, and its $body without white space
ask() {
    answer=$(printf '%s\n' "$settings" | curl --config - --silent --show-error --max-time 70 --request "$1" \
        --header 'content-type: application/json' ${3+--data-raw "$3"} --write-out '\n%{http_code}' "$base$2") ||
        fail "$step: $1 $base$2 was not answered"
    status=$(printf '%s' "$answer" | tail -n 1)
    body=$(printf '%s' "$answer" | sed '$d' | tr -d '[:space:]')
}

# STATUS: what the last answer has to have
answered() {
    [ "$status" = "$1" ] || fail "$step: status $status, and not $1: $body"
}

# TEXT...: what has to stand in the last answer
tells() {
    for text in "$@"; do
        case $body in
        *"$text"*) ;;
        *) fail "$step: no $text in the answer: $body" ;;
        esac
    done
}

passed() {
    printf 'ok   %s\n' "$step"
}

clean_up() {
    [ -z "$made" ] || (step="clean up" && ask DELETE "/sessions/$id") >/dev/null 2>&1 || :
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step=health
ask GET /healthz
answered 200
[ "$body" = '{"status":"ok"}' ] || fail "$step: the answer is $body"
passed

step=readiness
ask GET /readyz
answered 200
passed

step=list
ask GET '/sessions?limit=1'
answered 200
tells '"data":[' '"meta":{' '"total_count":'
passed

step=create
made=yes
ask POST /sessions "{\"session_id\":\"$id\",\"session_name\":\"$id-old\",\"session_state\":{\"tries\":1}}"
answered 201
tells "\"session_id\":\"$id\"" "\"session_name\":\"$id-old\""
passed

step=fetch
ask GET "/sessions/$id"
answered 200
tells "\"session_id\":\"$id\"" "\"session_name\":\"$id-old\"" '"session_state":{"tries":1}'
ask GET "/sessions?session_name=$id-old"
answered 200
tells "\"session_id\":\"$id\"" '"total_count":1'
passed

step=rename
ask POST "/sessions/$id/rename" "{\"session_name\":\"$id-new\"}"
answered 200
tells "\"session_name\":\"$id-new\""
ask GET "/sessions/$id"
answered 200
tells "\"session_name\":\"$id-new\"" '"session_state":{"tries":1}'
passed

step=delete
ask DELETE "/sessions/$id"
answered 204
ask GET "/sessions/$id"
answered 404
made=""
passed

printf '%s answers as it has to.\n' "$base"
