#!/usr/bin/env bash
# Whose surprise: aya 0.14.0, with aya-obj 0.3.0.
#
# Guess, before anything was run: `Xdp::from_pin(path, attach_type)` is public, so the type that it takes can be named through the crate that
# has the function: as `aya::programs::XdpAttachType`, or beside `Xdp` as `aya::programs::xdp::XdpAttachType`.
#
# Instead: both names are there and private (E0603), and no other path in aya leads to it. Whoever opens a pinned XDP program has to depend on
# aya-obj, which is aya's inside, in just the version that aya is built with.
#
# Seen:
#   aya::programs::XdpAttachType: E0603
#   aya::programs::xdp::XdpAttachType: E0603
#   aya_obj::programs::XdpAttachType: compiles
#
# Needs cargo; loads nothing into the kernel.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "attach-type"
version = "0.0.0"
edition = "2024"

[dependencies]
aya = { version = "=0.14.0", default-features = false }
aya-obj = "=0.3.0"
TOML

# What the compiler says where the type is called so.
try() {
    cat > src/main.rs <<RUST
use aya::programs::Xdp;

fn main() {
    let opened = Xdp::from_pin("/sys/fs/bpf/program", $1::Interface);
    println!("{}", opened.is_ok());
}
RUST
    if cargo check --quiet 2> said; then
        echo "$1: compiles"
    else
        echo "$1: $(grep -om1 'E[0-9]\{4\}' said)"
    fi
}

seen=$(for name in aya::programs::XdpAttachType aya::programs::xdp::XdpAttachType aya_obj::programs::XdpAttachType; do
    try "$name"
done)
echo "$seen"
[ "$seen" = "aya::programs::XdpAttachType: E0603
aya::programs::xdp::XdpAttachType: E0603
aya_obj::programs::XdpAttachType: compiles" ]
