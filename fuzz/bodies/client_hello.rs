//! The first bytes of a TLS client, read for its name. Runs as a fuzz target, and under proptest in
//! `node/tests/client_hello_any_bytes.rs`.

use cygnet::proxy::tls::client_hello::{HELLO_MAX, Hello, peek};

/// The longest host name.
const NAME_MAX: usize = 253;

/// Reads `bytes`, and checks what must hold of any answer.
pub fn client_hello(bytes: &[u8]) {
    let whole = peek(bytes);
    match &whole {
        Hello::Incomplete => assert!(bytes.len() < HELLO_MAX),
        Hello::NotTls => {}
        Hello::Hello { server_name, alpn } => {
            let sound =
                |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-_.".contains(&octet);
            if let Some(name) = server_name {
                assert!(!name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(sound), "{name:?}");
                assert!(
                    !name.starts_with('.') && !name.contains(".."),
                    "a name that could leave a directory: {name:?}"
                );
            }
            assert!(alpn.iter().all(|protocol| (1..=255).contains(&protocol.len())));
            assert!(alpn.iter().map(|protocol| protocol.len() + 1).sum::<usize>() <= bytes.len());
            // What follows a hello does not change it.
            assert_eq!(peek(&[bytes, b"more"].concat()), whole);
        }
    }
    // Bytes that come later never change an answer that was given.
    let first = peek(&bytes[..bytes.len() / 2]);
    assert!(first == Hello::Incomplete || first == whole, "{first:?} became {whole:?}");
}
