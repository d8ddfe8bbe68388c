//! The harness: starts real processes and talks to them over real sockets.
