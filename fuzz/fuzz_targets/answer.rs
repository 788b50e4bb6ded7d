#![no_main]

#[path = "../bodies/answer.rs"]
mod answer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| answer::answer(bytes));
