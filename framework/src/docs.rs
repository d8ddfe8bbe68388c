//! The manual: longer pages, published with the reference.
//!
//! - [Getting started](getting_started): from an empty directory to a page that follows your changes
//! - [The development loop](development): what it does, what is watched, how long it takes, every message
//! - [Coming from tide](from_tide), [coming from Rocket](from_rocket)

#[doc = include_str!("../docs/getting-started.md")]
pub mod getting_started {}

#[doc = include_str!("../docs/development.md")]
pub mod development {}

#[doc = include_str!("../docs/from-tide.md")]
pub mod from_tide {}

#[doc = include_str!("../docs/from-rocket.md")]
pub mod from_rocket {}
