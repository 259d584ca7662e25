//! Any bytes as a file.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| socktrace_fuzz::report(file));
