#!/bin/sh
# Makes the passwords of a deployment, once: docker/secrets/, which git and image builds leave out.
# Copy that folder to wherever the same deployment starts from; delete it to have others made.
set -eu
umask 022
secrets=$(dirname "$0")/secrets
mkdir "$secrets" 2>/dev/null || {
  echo "$secrets is there already: nothing was changed." >&2
  exit 1
}
chmod 700 "$secrets" # its files are read in containers, by users that nobody here knows
word() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

redis=$(word)
cat >"$secrets/redis.acl" <<END
user default off
user emotrace on >$redis ~emotrace:* +@read +@write +@scripting +@connection -@dangerous
END
echo "EMOTRACE_SESSION_STORE=redis://emotrace:$redis@redis:6379/0" >"$secrets/session-store.env"
word >"$secrets/grafana-password"
: >"$secrets/keys.toml"
echo "Passwords are in $secrets; Grafana's user is admin. Who may use the service is still to be said:"
echo "docker run --rm emotrace:cpu keys new NAME >>$secrets/keys.toml"
