//! Tells the linker, which generates the code, what every kernel that runs sipguard's programs can do.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("bpf") {
        // Headers are read word by word instead of byte by byte. The architectures with a BPF compiler that network gateways run on
        // (x86-64, arm64) read unaligned words, and the verifier refuses them where they can't be.
        println!("cargo::rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    }
}
