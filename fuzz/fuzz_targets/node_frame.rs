#![no_main]

#[path = "../bodies/link.rs"]
#[allow(dead_code, reason = "shared by all targets")]
mod link;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| link::node_frame(bytes));
