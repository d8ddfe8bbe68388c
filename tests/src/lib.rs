//! The harness of the process tests: starts real processes, loads them over real sockets, and counts each kind of failure.
//!
//! | module | content |
//! |---|---|
//! | [`launch`] | starts a program: settings, environment, inherited sockets |
//! | [`process`] | a running program in its own directory: waits for it, signals, kills and reaps it |
//! | [`process_chain`] | a program and the processes that replace it in upgrades, followed by pid |
//! | [`proc`] | readings from `/proc`: memory, threads, descriptors, state |
//! | [`log_texts`] | the texts in a process's log that tests wait for |
//! | [`operator`] | runs the application's own commands, as an operator at a terminal does |
//! | [`conn`] | a client connection: sends bytes in chosen pieces, reads answers, reports how the connection ended |
//! | [`answer`] | an HTTP/1 answer |
//! | [`idle`] | a set of idle connections, and how many of them are still open |
//! | [`load`] | many concurrent clients |
//! | [`in_flight`] | clients in the middle of a request or a pipeline while an upgrade runs |
//! | [`tally`] | counts of answers and failures, each failure by its kind |
//! | [`raw`] | the table of raw requests, each with the one correct answer |
//! | [`plain_hyper`] | a server on hyper alone, for comparison with slackwater |
//! | [`faulty_server`] | a server that fails on demand; the harness is tested against it |
//! | [`balancer`] | HAProxy and nginx in front of the programs under test |
//! | [`project`] | a package outside this workspace, built against this checkout |
//! | [`program`] | the paths of the programs under test |
//! | [`browser`] | Chromium, controlled over WebDriver |
//! | [`tools`] | external tools: systemfd, systemd, cargo-watch, cargo-generate, Chromium |
//! | [`addr`], [`dir`], [`wait`] | addresses, temporary directories, waiting with a deadline |

pub mod addr;
pub mod answer;
pub mod balancer;
pub mod browser;
pub mod conn;
pub mod dir;
pub mod faulty_server;
pub mod idle;
pub mod in_flight;
pub mod launch;
pub mod load;
pub mod log_texts;
pub mod operator;
pub mod plain_hyper;
pub mod proc;
pub mod process;
pub mod process_chain;
pub mod program;
pub mod project;
pub mod raw;
pub mod tally;
pub mod tools;
pub mod wait;
