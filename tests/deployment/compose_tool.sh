#!/bin/sh
# compose_tool.sh PLACE: puts Docker Compose 2 there, out of Debian 13's package; Debian 12 has version
# 1 only. Changes nothing of the system.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/lists/partial"
chmod 755 "$folder"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$folder/sources.list"
apt() {
  apt-get -qq -o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder" -o APT::Sandbox::User=root "$@"
}
cd "$folder"
apt update
apt download docker-compose
dpkg-deb --extract docker-compose_*.deb .
cd - >/dev/null
install "$folder/usr/libexec/docker/cli-plugins/docker-compose" "$1"
