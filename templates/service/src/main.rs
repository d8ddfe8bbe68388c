//! The program: the command line and the process around the application.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[slackwater::main]
use {{crate_name}}::app;
