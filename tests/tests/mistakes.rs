//! The mistakes that people make, and what the compiler says of each: in words that say what to write.

use std::process::Command;

/// What rustc says around our words changes with its version, so they are compared with one version only.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn each_mistake_is_told_what_to_write() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("rustc runs");
    let version = String::from_utf8_lossy(&said.stdout);
    if !version.starts_with(RUSTC) {
        println!("skipped: the messages are those of {RUSTC}*, and this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("mistakes/*.rs");
}
