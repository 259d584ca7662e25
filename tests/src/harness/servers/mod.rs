//! Real servers: started in a directory of their own on loopback ports and Unix sockets, asked for
//! their own statistics, and ended.
//!
//! One file per server has its configuration, and how it says what it accepted. What its figures
//! are compared with is not decided here (`compare::served`).

mod load;
mod place;
mod server;

pub mod gunicorn;
pub mod haproxy;
pub mod holders;
pub mod nginx;
pub mod php_fpm;
pub mod postgres;
pub mod redis;
pub mod rsyslog;
pub mod socket_activate;

pub use load::{http_requests, pgbench, redis_benchmark, wrk};
pub use place::{Place, exchange};
pub use server::{NOBODY, at_rest, program};
