//! The harness: starts real processes, loads them over real sockets, and tells every way to fail apart.
//!
//! | module | for |
//! |---|---|
//! | [`process`] | a program under test in a directory of its own: started, awaited, signalled, killed and reaped |
//! | [`launch`] | how such a program is started: settings, environment, inherited sockets |
//! | [`lineage`] | a program and its successors over upgrades, followed by pid |
//! | [`conn`] | one connection, byte by byte: what is sent in which pieces, what comes back, how it ends |
//! | [`load`] | many clients at once, until told to stop |
//! | [`passengers`] | clients that an upgrade finds in the middle of something |
//! | [`idle`] | many connections that are only open, and whether they still are |
//! | [`balancer`] | HAProxy and nginx in front of programs under test |
//! | [`operator`] | somebody at a terminal, with the application's own commands |
//! | [`tally`] | what became of all requests, each failure by its kind |
//! | [`raw`] | the table of raw requests, each with its one right answer |
//! | [`plain`] | hyper and nothing else, to compare with |
//! | [`said`] | the words of a process' log that tests wait for |
//! | [`project`] | a package outside of this workspace, built against it |
//! | [`browser`] | Chromium, driven over WebDriver |
//! | [`tools`] | the tools of others: systemfd, systemd, cargo-watch, cargo-generate, Chromium |

pub mod addr;
pub mod answer;
pub mod balancer;
pub mod browser;
pub mod conn;
pub mod dir;
pub mod idle;
pub mod launch;
pub mod lineage;
pub mod load;
pub mod operator;
pub mod passengers;
pub mod plain;
pub mod proc;
pub mod process;
pub mod program;
pub mod project;
pub mod raw;
pub mod said;
pub mod stand_in;
pub mod tally;
pub mod tools;
pub mod wait;
