#![no_main]

#[path = "../bodies/upgrade.rs"]
mod upgrade;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| upgrade::upgrade(bytes));
