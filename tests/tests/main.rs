//! Every promise of the framework, tried on real processes: one module a topic.

mod app;
mod client;
mod config;
mod control;
mod crowds;
mod dev;
mod embed;
mod h2;
mod help;
mod holders;
mod http;
mod lifecycle;
mod limits;
mod logs;
mod mistakes;
mod plain_tide;
mod raw;
mod reload;
mod routes;
mod shutdown;
mod signals;
mod sockets;
mod sse;
mod upgrade;
mod ws;
