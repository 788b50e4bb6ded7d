#![no_main]

#[path = "../bodies/wire.rs"]
#[allow(dead_code, reason = "shared by all targets")]
mod wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::ndp(bytes));
