//! One file an example: run one with `cargo run --example NAME`.
