#!/usr/bin/env bash
# Whose surprise: aya 0.14.0.
#
# Guess, before anything was run: a program without relocations needs nothing of the kernel's own types, and `EbpfLoader::new().btf(None)` is the way
# to say so. It is documented to leave out all that has to do with them, so it costs nothing.
#
# Instead: `new` has read and parsed the types of the whole kernel (/sys/kernel/btf/vmlinux, 5.5 MB on Linux 6.18) before `btf(None)` can throw them
# away, and there is no other way to make a loader. Each loader takes that time and memory once, which is more than many programs that it
# loads.
#
# Seen, on a busy machine:
#   loader new().btf(None): the file was read 1 times, 19 MiB more memory at most, 47 ms
#
# Needs cargo, strace and a kernel with BTF; loads nothing into the kernel.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "btf-none"
version = "0.0.0"
edition = "2024"

[dependencies]
aya = { version = "=0.14.0", default-features = false }
TOML
cat > src/main.rs <<'RUST'
use std::{fs, time::Instant};

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

fn main() {
    let (before, began) = (peak_mib(), Instant::now());
    let mut loader = aya::EbpfLoader::new();
    loader.btf(None);
    let took = began.elapsed().as_millis();
    println!("{} MiB more memory at most, {took} ms", peak_mib() - before);
}
RUST
cargo build --quiet --release
told=$(strace -f -e trace=openat -o calls target/release/btf-none)
reads=$(grep -c '"/sys/kernel/btf/vmlinux"' calls || true)
echo "loader new().btf(None): the file was read $reads times, $told"
[ "$reads" = 1 ]
