#!/bin/sh
# Fuzzes everything that users feed to the platform, each target for the given number of seconds. Coverage-guided by
# libFuzzer, on the stable toolchain. Usage: fuzz.sh SECONDS [TARGET…]
set -eu
seconds=${1:?usage: fuzz.sh SECONDS [TARGET...]}
shift
targets=${*:-frames manifests archives events}
cd tests/fuzz
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, build scripts and macros are left uninstrumented.
RUSTFLAGS="$flags" cargo build --release --target "$host" --bins
for target in $targets; do
    mkdir -p "corpus/$target" "artifacts/$target"
    "target/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 "corpus/$target"
done
