//! The manual, published with the API reference.
//!
//! - [Getting started](getting_started): from an empty directory to a page that reloads when the code changes
//! - [The development loop](development): the steps of `APP dev`, the files it watches, its messages
//! - [Coming from tide](from_tide), [coming from Rocket](from_rocket)
//! - [Crates that need tokio](tokio): where they work, and their behaviour at a reload, an upgrade and a shutdown

#[doc = include_str!("../docs/getting-started.md")]
pub mod getting_started {}

#[doc = include_str!("../docs/development.md")]
pub mod development {}

#[doc = include_str!("../docs/from-tide.md")]
pub mod from_tide {}

#[doc = include_str!("../docs/from-rocket.md")]
pub mod from_rocket {}

#[doc = include_str!("../docs/tokio.md")]
pub mod tokio {}

#[doc = include_str!("../docs/settings.md")]
pub mod settings {}

#[doc = include_str!("../docs/signals.md")]
pub mod signals {}

#[doc = include_str!("../docs/reload.md")]
pub mod reload {}

#[doc = include_str!("../docs/upgrade.md")]
#[doc = include_str!("../docs/upgrade.svg")]
pub mod upgrade {}

#[doc = include_str!("../docs/shutdown.md")]
#[doc = include_str!("../docs/lifecycle.svg")]
pub mod shutdown {}

#[doc = include_str!("../docs/monitor.md")]
pub mod monitor {}

#[doc = include_str!("../docs/deploy.md")]
pub mod deploy {}

#[doc = include_str!("../docs/troubleshoot.md")]
pub mod troubleshoot {}
