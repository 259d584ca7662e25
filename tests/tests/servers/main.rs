//! Real servers under load: what socktrace counts equals what the servers count themselves, and it
//! names everybody who holds their listeners.
//!
//! Needs root, `SOCKTRACE_BIN`, the servers (`cargo xtask setup`), and `--test-threads=1`. Runs on the
//! host only. A server that is not installed is a failure, not a skipped test.

mod causes;
mod gunicorn;
mod haproxy;
mod hung_mounts;
mod nginx;
mod postgres;
mod recorded;
mod redis;
