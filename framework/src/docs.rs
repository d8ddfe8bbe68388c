//! Longer pages, published with the reference: nothing but words.

#[doc = include_str!("../docs/from-tide.md")]
pub mod from_tide {}
