//! The program around the application: its command line, its process.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[slackwater::main]
use {{crate_name}}::app;
