#![no_main]

#[path = "../bodies/watch.rs"]
mod watch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watch::word(bytes));
