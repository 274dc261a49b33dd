#!/bin/sh
# Makes the secrets of compose.yaml in deploy/secrets, or in the folder given. What is there is kept, so
# it may be run again; what belongs together is made together.
set -eu
umask 022
folder=${1:-$(dirname "$0")/secrets}

# Nobody else enters the folder; the files are for the users of the containers, who are mounted each file.
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# make NAME TEXT: whole or not at all.
make() {
  if [ -e "$1" ]; then
    echo "kept $folder/$1"
  else
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
    echo "made $folder/$1"
  fi
}

make jwt_secret "$(random)"
make metrics_token "$(random)"
make mongodb_password "$(random)"
make mongodb_uri "mongodb://chat:$(cat mongodb_password)@mongodb/chat?authSource=admin"
make redis.conf "requirepass $(random)"
make redis_url "redis://:$(sed 's/^requirepass //' redis.conf)@redis:6379"
