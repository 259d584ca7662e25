//! Real servers under load: what socktrace counts equals what the servers count themselves, and it
//! names everybody who holds their listeners. And real sessions as pages, in a browser.
//!
//! Needs root, `SOCKTRACE_BIN`, the servers and chromium (`cargo xtask setup`), and `--test-threads=1`. Runs on the
//! host only. A server that is not installed is a failure, not a skipped test.

mod causes;
mod gunicorn;
mod haproxy;
mod hung_mounts;
mod nginx;
mod pages;
mod postgres;
mod recorded;
mod redis;
