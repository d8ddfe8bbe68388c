//! Compile errors for common mistakes. Each message names the correction.

use std::process::Command;

/// The compiler version of the `.stderr` files. The lines that rustc itself prints differ between versions.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn the_compile_error_for_each_common_mistake_names_the_correction() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout);
    if !version.starts_with(RUSTC) {
        println!("skipped: the .stderr files contain the messages of {RUSTC}*, but the compiler is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("mistakes/*.rs");
}
