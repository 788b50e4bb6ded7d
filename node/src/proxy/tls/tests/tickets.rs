//! Sessions that go on.

use std::sync::{Arc, Mutex};

use cygnet_ha::consensus::TicketSet;
use openssl::ssl::{
    ShutdownState, Ssl, SslContext, SslMethod, SslSession, SslSessionCacheMode, SslStream, SslVerifyMode,
    SslVersion,
};

use crate::config::model::TlsListen;

use super::super::{ServerContext, Session, TICKET_KEYS_MAX, TicketKey, TicketKeys, Tickets};
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
fn a_session_goes_on_where_the_certificate_was_renewed_already_or_is_another_one_for_the_same_names() {
    let (here, there) = (Pki::new(), Pki::new());
    let keys = Arc::new(TicketKeys::random().unwrap());
    let (first, second) =
        (server_with(&here.listen("a.test"), &keys), server_with(&there.listen("a.test"), &keys));
    for version in VERSIONS {
        let client = Resuming::new(version);
        assert!(!client.connect(&first, "a.test"));
        assert!(client.connect(&second, "a.test"));
    }
}

#[test]
fn a_session_does_not_go_on_at_a_service_that_judges_clients_by_other_rules() {
    let pki = Pki::new();
    let keys = Arc::new(TicketKeys::random().unwrap());
    let open = pki.listen("a.test");
    let asking = TlsListen { client_authorities: Some(pki.path("root.pem")), ..open.clone() };
    let others = TlsListen { client_authorities: Some(pki.path("authority.pem")), ..open.clone() };
    let directory = |name: &str| {
        std::fs::create_dir(pki.path(name)).unwrap();
        TlsListen { client_authorities_directory: Some(pki.path(name)), ..open.clone() }
    };
    let rules = [open.clone(), asking, others, directory("one"), directory("two")];
    let services: Vec<ServerContext> = rules.iter().map(|listen| server_with(listen, &keys)).collect();
    for version in VERSIONS {
        for (from, first) in services.iter().enumerate() {
            for (to, second) in services.iter().enumerate() {
                let client = Resuming::new(version);
                assert!(!client.connect(first, "a.test"));
                assert_eq!(client.connect(second, "a.test"), from == to, "{version:?} from {from} to {to}");
            }
        }
    }
}

fn current(tickets: &Tickets) -> TicketKey {
    tickets.keys().keys()[0].clone()
}

#[test]
fn a_node_seals_with_the_key_of_the_cluster_where_there_is_one_and_with_its_own_otherwise() {
    let key = || TicketKey::random().unwrap();
    let tickets = Tickets::random().unwrap();
    let own = current(&tickets);
    let (first, second, third) = (key(), key(), key());
    // Announced: it opens what another node may seal with it before this one hears that it is in use.
    tickets.share(&TicketSet { current: None, others: vec![first.clone()] });
    assert_eq!(tickets.keys().keys(), [own.clone(), first.clone()]);
    let shared = TicketSet { current: Some(second.clone()), others: vec![third.clone(), first.clone()] };
    tickets.share(&shared);
    assert_eq!(tickets.keys().keys(), [second, third, first, own.clone()], "also what was sealed before");
    tickets.rotate_own().unwrap();
    assert!(!tickets.keys().keys().contains(&own), "until that is too old");
    tickets.share(&TicketSet::default());
    assert_eq!(tickets.keys().keys().len(), 2);
}

#[test]
fn own_keys_rotate_and_their_number_is_bounded() {
    let tickets = Tickets::random().unwrap();
    let first = current(&tickets);
    tickets.rotate_own().unwrap();
    let keys = tickets.keys().keys();
    assert_eq!((keys.len(), &keys[1]), (2, &first));
    assert_ne!(keys[0], first);
    let many = || std::iter::repeat_with(|| TicketKey::random().unwrap()).take(9);
    tickets.keys().set(TicketKey::random().unwrap(), many());
    assert_eq!(tickets.keys().keys().len(), TICKET_KEYS_MAX);
    let shared = TicketSet { current: Some(TicketKey::random().unwrap()), others: Vec::new() };
    tickets.share(&shared);
    for text in [format!("{tickets:?}"), format!("{shared:?}"), format!("{:?}", current(&tickets))] {
        assert!(text.contains("TicketKey(..)") && !text.contains("TicketKey(["), "no key in a log: {text}");
    }
}
