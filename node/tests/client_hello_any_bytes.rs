//! The first bytes of a TLS client: any, and a real hello with damage. The body is that of the fuzz target.

#[path = "../../fuzz/bodies/client_hello.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod body;

use cygnet::config::model::TlsConnect;
use cygnet::proxy::tls::client_hello::{Hello, peek};
use cygnet::proxy::tls::{ClientContext, Scratch, Session};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// What the library sends to a server called `name`.
fn hello(name: &str) -> Vec<u8> {
    let context =
        ClientContext::new(&TlsConnect { insecure: true, ..TlsConnect::default() }).expect("a context");
    let mut scratch = Scratch::new();
    Session::connect_offering(&context, Some(name), Some(b"h2"))
        .expect("a session")
        .handshake(&mut scratch)
        .expect("a hello");
    scratch.output
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        body::client_hello(&bytes);
    }

    #[test]
    fn a_hello_with_damage(damage in vec((any::<Index>(), any::<u8>()), 1..6), end in any::<Index>()) {
        let mut bytes = hello("www.example.org");
        let is_hello = matches!(peek(&bytes), Hello::Hello { .. });
        prop_assert!(is_hello);
        for (place, octet) in &damage {
            let place = place.index(bytes.len());
            bytes[place] = *octet;
        }
        body::client_hello(&bytes);
        body::client_hello(&bytes[..end.index(bytes.len())]);
    }
}
