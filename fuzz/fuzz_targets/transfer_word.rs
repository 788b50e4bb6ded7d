#![no_main]

#[path = "../bodies/transfer_word.rs"]
mod transfer_word;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transfer_word::transfer_word(bytes));
