#![no_main]

#[path = "../bodies/pen.rs"]
#[allow(dead_code, reason = "shared by all targets")]
mod pen;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pen::commands(bytes));
