#![no_main]

#[path = "../bodies/state.rs"]
#[allow(dead_code, reason = "shared by all targets")]
mod state;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| state::snapshot(bytes));
