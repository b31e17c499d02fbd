# Every target prepares the machine for itself: as root it installs the Debian packages it needs, otherwise it says which.
.PHONY: demo build test test-sdk check format lint deny docs bench fuzz openapi install clean

build:
	scripts/prepare.sh run
	cargo build --release --bin raas

# The whole journey on a throw-away platform: cold, warm, hit, coalesced, with times and costs.
demo: build
	target/release/raas demo

test: test-sdk
	cargo test --workspace --no-fail-fast

test-sdk:
	scripts/prepare.sh test
	/usr/bin/python3 -m unittest discover -s helpers/sdk/python/tests
	node --test $(wildcard helpers/sdk/node/tests/*.test.mjs)
	for example in route trip coat ask; do \
		(cd examples/$$example && PYTHONPATH=../../helpers/sdk/python /usr/bin/python3 -B -m unittest) || exit 1; done
	for example in seattle-weather nearby; do (cd examples/$$example && node --test) || exit 1; done
	for helper in geo forecast; do \
		(cd helpers/library/$$helper && PYTHONPATH=../../sdk/python /usr/bin/python3 -B -m unittest) || exit 1; done
	scripts/venv.sh target/embed helpers/library/embed/requirements.txt
	cd helpers/library/embed && PYTHONPATH=../../sdk/python ../../../target/embed/bin/python -B -m unittest

# What CI checks beside the tests.
check: format lint deny docs

format:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings

deny:
	command -v cargo-deny >/dev/null || cargo install cargo-deny --version 0.20.2 --locked
	cargo deny --all-features check bans licenses sources

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

bench: build
	scripts/prepare.sh bench
	scripts/bench-peers.sh target/bench-peers
	target/release/raas bench --peers target/bench-peers

# What users feed to the platform, a minute each.
fuzz:
	scripts/fuzz.sh 60

# The committed OpenAPI document; a test fails while it differs from what is served.
openapi:
	cargo run --quiet --bin raas -- openapi > platform/server/openapi.json

install: build
	install -m 0755 target/release/raas /usr/local/bin/raas

clean:
	cargo clean
