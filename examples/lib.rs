//! Each file is an example. Run it with `cargo run --example NAME`.
