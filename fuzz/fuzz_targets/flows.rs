#![no_main]

#[path = "../bodies/flows.rs"]
mod flows;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flows::flows(bytes));
