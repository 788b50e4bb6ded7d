//! OCSP responses: which are handed out, and which are not.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use openssl::ssl::{Ssl, SslContext, SslMethod, SslRef, SslStream, SslVerifyMode, StatusType};

use crate::config::model::TlsListen;

use super::super::{ServerContext, Session};
use super::pki::{Pair, Pki};
use super::{End, serve_one_octet, server};

fn openssl(pki: &Pki, arguments: &[&str]) {
    let run = Command::new("openssl").args(arguments).current_dir(pki.directory.path()).output().unwrap();
    assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
}

/// A responder's word about `leaf`: `V`alid or `R`evoked.
fn response(pki: &Pki, leaf: &Pair, status: &str) -> Vec<u8> {
    pki.write("leaf.pem", &leaf.certificate.to_pem().unwrap());
    pki.write("authority.key", &pki.authority.key.private_key_to_pem_pkcs8().unwrap());
    let serial = leaf.certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string();
    let revoked = if status == "R" { "250101000000Z" } else { "" };
    pki.write("index", format!("{status}\t400101000000Z\t{revoked}\t{serial}\tunknown\t/CN=x\n").as_bytes());
    openssl(
        pki,
        &["ocsp", "-issuer", "authority.pem", "-cert", "leaf.pem", "-no_nonce", "-reqout", "request"],
    );
    let signer = ["-rsigner", "authority.pem", "-rkey", "authority.key", "-CA", "authority.pem"];
    let rest = ["-index", "index", "-reqin", "request", "-respout", "response", "-ndays", "7"];
    openssl(pki, &[&["ocsp"][..], &signer, &rest].concat());
    fs::read(pki.path("response")).unwrap()
}

/// What a client that asks for it is handed.
fn stapled(context: &ServerContext, name: &str) -> Option<Vec<u8>> {
    let (there, here) = UnixStream::pair().unwrap();
    let session = Session::accept(context).unwrap();
    let peer = std::thread::spawn(move || serve_one_octet(&mut End::new(session), here));
    let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let mut ssl = Ssl::new(&builder.build()).unwrap();
    ssl.set_hostname(name).unwrap();
    ssl.set_status_type(StatusType::OCSP).unwrap();
    let mut stream = SslStream::new(ssl, there).unwrap();
    stream.connect().unwrap();
    assert_eq!(stream.ssl_read(&mut [0; 9]).unwrap(), 1);
    peer.join().unwrap();
    handed(stream.ssl()).map(<[u8]>::to_vec)
}

#[cfg(not(feature = "fast-tls"))]
fn handed(ssl: &SslRef) -> Option<&[u8]> {
    ssl.ocsp_status()
}

#[cfg(feature = "fast-tls")]
fn handed(ssl: &SslRef) -> Option<&[u8]> {
    cygnet_netlink::ssl::ocsp_response(ssl)
}

/// A service for `a.test` with an OCSP file that is not there yet.
fn service(pki: &Pki) -> (Pair, TlsListen, PathBuf) {
    let leaf = pki.leaf("a.test");
    pki.store("default", &leaf);
    let file = pki.path("default.ocsp");
    let listen = TlsListen {
        key: Some(pki.path("default.key")),
        ocsp: Some(file.clone()),
        ..TlsListen::new(pki.path("default.crt"))
    };
    (leaf, listen, file)
}

#[test]
fn a_response_is_handed_out_as_soon_as_its_file_is_there_and_as_long() {
    let pki = Pki::new();
    let (leaf, listen, file) = service(&pki);
    let context = server(&listen);
    assert_eq!(stapled(&context, "a.test"), None);
    let good = response(&pki, &leaf, "V");
    fs::write(&file, &good).unwrap();
    assert_eq!((context.refresh().changed, context.refresh().changed), (1, 0));
    assert_eq!(stapled(&context, "a.test"), Some(good));
    fs::remove_file(&file).unwrap();
    assert_eq!(context.refresh().changed, 1);
    assert_eq!(stapled(&context, "a.test"), None);
}

#[test]
fn a_name_of_the_directory_has_a_response_of_its_own() {
    let pki = Pki::new();
    let (_, listen, _) = service(&pki);
    let leaf = pki.leaf("b.test");
    pki.store("names/b.test", &leaf);
    let good = response(&pki, &leaf, "V");
    pki.write("names/b.test.ocsp", &good);
    let context = server(&TlsListen { names: Some(pki.path("names")), ..listen });
    assert_eq!(stapled(&context, "b.test"), Some(good));
    assert_eq!(stapled(&context, "a.test"), None);
}

#[test]
fn a_response_that_no_client_would_take_is_named_and_not_handed_out() {
    let pki = Pki::new();
    let (leaf, listen, file) = service(&pki);
    let context = server(&listen);
    let good = response(&pki, &leaf, "V");
    let revoked = response(&pki, &leaf, "R");
    let stranger = response(&pki, &pki.leaf("a.test"), "V");
    // Nobody checks the signature here, so an old one is made by hand.
    let mut old = good.clone();
    let year = &leaf.certificate.not_before().to_string()[16..20].to_owned();
    let places: Vec<usize> = (0..old.len() - 15)
        .filter(|at| old[*at..].starts_with(year.as_bytes()) && old[at + 14] == b'Z')
        .collect();
    assert!(places.len() >= 3, "produced, this update, next update");
    for at in places {
        old[at..at + 4].copy_from_slice(b"2020");
    }
    for (bad, reason) in [
        (b"no DER".to_vec(), "DER"),
        (vec![0; 20_000], "longer than"),
        (revoked, "revoked"),
        (stranger, "another certificate"),
        (old, "not valid now"),
    ] {
        fs::write(&file, &good).unwrap();
        assert_eq!(context.refresh().changed, 1);
        fs::write(&file, &bad).unwrap();
        let found = context.refresh();
        assert!(found.problems[0].to_string().contains(reason), "{:?}", found.problems);
        assert!(context.refresh().problems.is_empty(), "said once");
        assert_eq!(stapled(&context, "a.test"), Some(good.clone()), "the former one is still good");
        fs::remove_file(&file).unwrap();
        assert_eq!(context.refresh().changed, 1);
    }
}
