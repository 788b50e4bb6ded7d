#![no_main]

#[path = "../bodies/http.rs"]
mod http;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| http::http(bytes));
