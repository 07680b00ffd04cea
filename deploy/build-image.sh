#!/usr/bin/env bash
# Builds deploy/Dockerfile with docker or buildah, whichever is there: `make image`.
#
#   IMAGE=registry.example/ofevents:1  deploy/build-image.sh [further arguments of the builder]
#
# What pip is told on this machine (`pip config list`, PIP_* variables, its certificate
# authorities) is handed to the build as secrets, so that no layer and no file has it.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${IMAGE:-ofevents:$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' ofevents/__init__.py)}
secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
chmod 700 "$secrets"

arguments=(--file deploy/Dockerfile --tag "$image")
python3 - >"$secrets/pip.conf" <<'PYTHON'
"""pip's settings of this machine as one file; what names a place on it cannot be taken along."""
import subprocess
import sys

HERE = {"cert", "find-links", "cache-dir", "log", "client-cert"}
listed = subprocess.run(
    [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
)
print("[global]")
for line in listed.stdout.splitlines():
    name, _, value = line.partition("=")
    option = name.rpartition(".")[2]
    if option not in HERE:
        print(f"{option} = {value.strip(chr(39))}")
PYTHON
arguments+=(--secret "id=pip,src=$secrets/pip.conf")
for authorities in "${PIP_CERT:-}" /etc/ssl/certs/ca-certificates.crt; do
  if [[ -f $authorities ]]; then
    arguments+=(--secret "id=ca,src=$authorities")
    break
  fi
done

if docker info >/dev/null 2>&1; then
  exec_build=(docker build)
elif command -v buildah >/dev/null; then
  # chroot: also where no namespaces may be made, as inside a container.
  exec_build=(buildah bud --isolation chroot --layers=false)
else
  echo "make image needs docker (its daemon running) or buildah" >&2
  exit 1
fi
"${exec_build[@]}" "${arguments[@]}" "$@" .
echo "built $image"
