//! Any text as the lines of a session, in frames whose checksums are right.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let mut file = Vec::new();
    // Frames end where a line ends, so that both sides of it are read.
    for part in text.split_inclusive(|byte| *byte == b'\x0c') {
        file.extend(zstd::bulk::compress(part, 1).expect("memory"));
    }
    socktrace_fuzz::report(&file);
});
