#!/bin/sh
# Makes this machine fit for `make TARGET`: installs the Debian packages that are missing when run as root, and otherwise
# says exactly what is missing and how to get it. Usage: prepare.sh run|test|bench
set -eu

purpose=${1:?usage: prepare.sh run|test|bench}
packages=

# A command that is there is used, whatever package it came from.
needs() { # command package
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}

needs cc build-essential
needs git git
# Functions run on the machine's own interpreters.
[ -x /usr/bin/python3 ] || packages="$packages python3"
[ -x /usr/bin/node ] || packages="$packages nodejs"
case $purpose in
test | bench)
    # Deploying a function with requirements needs pip, one with a package.json npm.
    /usr/bin/python3 -m pip --version >/dev/null 2>&1 || packages="$packages python3-pip"
    needs npm npm
    ;;
esac
case $purpose in
test)
    # The store's tests run on a real Postgres of their own.
    command -v postgres >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || packages="$packages postgresql"
    # What platforms share results in.
    needs redis-server redis-server
    # What sets a platform's clock while it runs.
    needs faketime faketime
    needs setpriv util-linux
    needs ip iproute2
    ;;
bench)
    needs nginx nginx-light
    /usr/bin/python3 -m venv --help >/dev/null 2>&1 || packages="$packages python3-venv"
    ;;
esac
if ! command -v cargo >/dev/null 2>&1 && apt-cache show rustup >/dev/null 2>&1; then
    packages="$packages rustup"
fi

if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing Debian packages:$packages"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # Word splitting is meant: one package a word.
        # shellcheck disable=SC2086
        apt-get install -y -qq --no-install-recommends $packages >/dev/null
    else
        echo "missing on this machine:$packages" >&2
        echo "install with: sudo apt-get install$packages" >&2
        exit 1
    fi
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null 2>&1 || ! cargo --version >/dev/null 2>&1; then
    if command -v rustup >/dev/null 2>&1; then
        rustup default stable
    else
        echo "missing: Rust $wanted or newer. Install it with rustup, see https://rustup.rs, and run this again." >&2
        exit 1
    fi
fi
have=$(cargo --version | sed 's/^cargo \([0-9]*\.[0-9]*\).*/\1/')
oldest=$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)
if [ "$oldest" != "$wanted" ]; then
    echo "Rust $have is too old: $wanted or newer is needed. Get it with: rustup update stable" >&2
    exit 1
fi
