#![no_main]

#[path = "../bodies/watch.rs"]
#[allow(dead_code, reason = "shared by two targets")]
mod watch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watch::word(bytes));
