//! Sessions that go on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cygnet_ha::time::Time;
use openssl::ssl::{
    ShutdownState, Ssl, SslContext, SslMethod, SslSession, SslSessionCacheMode, SslStream, SslVerifyMode,
    SslVersion,
};

use crate::config::model::TlsListen;

use super::super::{
    ServerContext, Session, TICKET_KEYS_MAX, TICKET_ROTATION, TicketKey, TicketKeys, TicketRotation,
};
use super::pki::Pki;
use super::{End, serve_one_octet, server_with};

/// A client of the library that keeps the session it is given last.
struct Resuming {
    context: SslContext,
    kept: Arc<Mutex<Option<SslSession>>>,
}

impl Resuming {
    fn new(version: SslVersion) -> Self {
        let kept = Arc::new(Mutex::new(None));
        let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_max_proto_version(Some(version)).unwrap();
        builder.set_session_cache_mode(SslSessionCacheMode::CLIENT);
        let keep = kept.clone();
        builder.set_new_session_callback(move |_, session| *keep.lock().unwrap() = Some(session));
        Self { context: builder.build(), kept }
    }

    /// Connects to `server` over a socket, with the session kept last, and reads one octet: whether it went on.
    fn connect(&self, server: &ServerContext, name: &str) -> bool {
        let (there, here) = std::os::unix::net::UnixStream::pair().unwrap();
        let session = Session::accept(server).unwrap();
        let peer = std::thread::spawn(move || serve_one_octet(&mut End::new(session), here));
        let mut ssl = Ssl::new(&self.context).unwrap();
        ssl.set_hostname(name).unwrap();
        if let Some(session) = self.kept.lock().unwrap().take() {
            ssl = with_session(ssl, &session);
        }
        let mut stream = SslStream::new(ssl, there).unwrap();
        stream.connect().unwrap();
        assert_eq!(stream.ssl_read(&mut [0; 9]).unwrap(), 1);
        let resumed = stream.ssl().session_reused();
        // The callback is not called for a ticket that TLS 1.2 renews.
        if resumed && stream.ssl().version2() == Some(SslVersion::TLS1_2) {
            *self.kept.lock().unwrap() = stream.ssl().session().map(ToOwned::to_owned);
        }
        // Without it the library takes the session for broken.
        stream.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        assert_eq!(peer.join().unwrap(), resumed, "both sides say the same");
        resumed
    }
}

/// The crate marks it unsafe, for a session must belong to the same context: it does here.
fn with_session(mut ssl: Ssl, session: &SslSession) -> Ssl {
    cygnet_netlink::ssl::resume(&mut ssl, session).unwrap();
    ssl
}

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

#[test]
fn a_session_goes_on_with_its_ticket() {
    let pki = Pki::new();
    let context = server_with(&pki.listen("a.test"), &Arc::new(TicketKeys::random().unwrap()));
    for version in VERSIONS {
        let client = Resuming::new(version);
        assert!(!client.connect(&context, "a.test"));
        assert!(client.connect(&context, "a.test"));
    }
}

#[test]
fn a_session_outlives_one_rotation_and_its_ticket_is_renewed_but_not_two() {
    let pki = Pki::new();
    for version in VERSIONS {
        let keys = Arc::new(TicketKeys::random().unwrap());
        let context = server_with(&pki.listen("a.test"), &keys);
        let client = Resuming::new(version);
        assert!(!client.connect(&context, "a.test"));
        for _ in 0..3 {
            keys.rotate(TicketKey::random().unwrap());
            assert!(
                client.connect(&context, "a.test"),
                "sealed with the previous key, and renewed with the current"
            );
        }
        keys.rotate(TicketKey::random().unwrap());
        keys.rotate(TicketKey::random().unwrap());
        assert!(!client.connect(&context, "a.test"), "that key is gone");
    }
}

#[test]
fn nodes_with_the_same_keys_and_files_take_each_other_s_sessions() {
    let pki = Pki::new();
    let listen = pki.listen("a.test");
    let (ours, theirs) = (TicketKeys::random().unwrap(), Arc::new(TicketKeys::random().unwrap()));
    let first = server_with(&listen, &Arc::new(TicketKeys::random().unwrap()));
    let second = server_with(&listen, &theirs);
    let client = Resuming::new(SslVersion::TLS1_3);
    assert!(!client.connect(&first, "a.test"));
    assert!(!client.connect(&second, "a.test"), "other keys");
    let shared = theirs.keys()[0].as_bytes().to_owned();
    ours.set(TicketKey::from_bytes(shared), []);
    let third = server_with(&listen, &Arc::new(ours));
    assert!(client.connect(&third, "a.test"));
}

#[test]
fn a_session_of_one_name_does_not_go_on_at_another() {
    let pki = Pki::new();
    let listen = TlsListen { names: Some(pki.path("names")), ..pki.listen("a.test") };
    pki.store("names/b.test", &pki.leaf("b.test"));
    let context = server_with(&listen, &Arc::new(TicketKeys::random().unwrap()));
    for version in VERSIONS {
        let client = Resuming::new(version);
        assert!(!client.connect(&context, "a.test"));
        assert!(!client.connect(&context, "b.test"));
        assert!(client.connect(&context, "b.test"));
    }
}

#[test]
fn keys_rotate_when_it_is_time_and_their_number_is_bounded() {
    let keys = Arc::new(TicketKeys::random().unwrap());
    let mut now = Time::ZERO;
    let mut rotation = TicketRotation::new(keys.clone(), now);
    let first = keys.keys();
    now = now + TICKET_ROTATION - Duration::from_secs(1);
    assert!(!rotation.tick(now).unwrap());
    now = now + Duration::from_secs(1);
    assert!(rotation.tick(now).unwrap() && !rotation.tick(now).unwrap());
    let second = keys.keys();
    assert_eq!(second.len(), 2);
    assert_eq!(second[1], first[0]);
    assert_ne!(second[0], first[0]);
    let many = || std::iter::repeat_with(|| TicketKey::random().unwrap()).take(9);
    keys.set(TicketKey::random().unwrap(), many());
    assert_eq!(keys.keys().len(), TICKET_KEYS_MAX);
    assert_eq!(format!("{:?}", keys.keys()[0]), "TicketKey(..)", "no key in a log");
}
