use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509Builder, X509NameBuilder};
use tempfile::TempDir;

use super::*;
use crate::balance::ClientTable;
use crate::config::model::{Acl, AclEntry, AclMatch};
use crate::plan::tests::{one_service, plan_of};
use crate::plan::{ListenAt, Plan, Registry};

/// A certificate that signs itself, and its key, in one file.
fn certificate(directory: &TempDir, name: &str) -> PathBuf {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(9).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let mut pem = builder.build().to_pem().unwrap();
    pem.extend(key.private_key_to_pem_pkcs8().unwrap());
    let path = directory.path().join(name);
    fs::write(&path, pem).unwrap();
    path
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A registry with a directory for its files, and a service with a certificate of this name.
struct Bench {
    directory: TempDir,
    registry: Registry,
    clients: ClientTable,
    config: ClusterConfig,
}

impl Bench {
    fn new(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = one_service(at(443), &[at(1), at(2)]);
        config.services[0].tls = Some(TlsListen::new(directory.path().join(file)));
        Self { directory, registry: Registry::new(1), clients: ClientTable::new(32), config }
    }

    fn plan(&self) -> Plan {
        plan_of(&self.registry, &self.config, &self.clients)
    }

    fn tls(&mut self) -> &mut TlsListen {
        self.config.services[0].tls.as_mut().unwrap()
    }
}

fn faults(plan: &Plan) -> Vec<(bool, String)> {
    plan.faults.iter().map(|fault| (fault.kept, fault.text.clone())).collect()
}

#[test]
fn a_service_without_its_certificate_does_not_listen_until_it_is_there() {
    let bench = Bench::new("web.crt");
    let plan = bench.plan();
    assert_eq!(plan.listeners().count(), 0, "least of all without TLS");
    assert!(matches!(plan.services[0].tls, Some(Err(_))) && !plan.services[0].may_listen);
    let told = faults(&plan);
    assert_eq!(told.len(), 1);
    assert!(!told[0].0 && told[0].1.contains("web.crt") && told[0].1.contains("check the path"), "{told:?}");
    certificate(&bench.directory, "web.crt");
    let plan = bench.plan();
    assert!(
        plan.service_at(&ListenAt::tcp(at(443))).is_some_and(|service| matches!(service.tls, Some(Ok(_))))
    );
    assert_eq!(plan.faults, []);
}

#[test]
fn what_was_loaded_before_goes_on_when_new_files_cannot_be_used() {
    let mut bench = Bench::new("web.crt");
    certificate(&bench.directory, "web.crt");
    assert_eq!(bench.plan().faults, []);
    bench.tls().certificate = bench.directory.path().join("new.crt");
    let plan = bench.plan();
    assert!(matches!(plan.services[0].tls, Some(Ok(_))) && plan.services[0].may_listen);
    let told = faults(&plan);
    assert!(told[0].0 && told[0].1.contains("new.crt"), "{told:?}");
}

#[test]
fn an_unrelated_change_does_not_load_a_certificate_again() {
    let mut bench = Bench::new("web.crt");
    let path = certificate(&bench.directory, "web.crt");
    assert_eq!(bench.plan().faults, []);
    fs::remove_file(path).unwrap();
    bench.config.services[0].servers[0].weight = 7;
    let plan = bench.plan();
    assert_eq!((plan.faults.len(), plan.listeners().count()), (0, 1));
    bench.config.services[0].tls = None;
    assert!(bench.plan().services[0].tls.is_none());
    bench.config.services[0].tls = Some(TlsListen::new(bench.directory.path().join("web.crt")));
    assert_eq!(bench.plan().listeners().count(), 0, "what no plan has is forgotten");
}

#[test]
fn a_renewed_certificate_is_found_and_a_bad_one_is_told_once() {
    let bench = Bench::new("web.crt");
    let path = certificate(&bench.directory, "web.crt");
    assert_eq!(bench.plan().faults, []);
    bench.registry.rotate_tickets().unwrap();
    assert_eq!(bench.registry.refresh_files().faults, []);
    fs::write(&path, "nonsense, and of another length").unwrap();
    let told = bench.registry.refresh_files().faults;
    assert!(told.len() == 1 && told[0].kept && &*told[0].service == "web", "{told:?}");
    assert_eq!(bench.registry.refresh_files().faults, []);
}

#[test]
fn a_server_without_its_authorities_is_not_connected_to() {
    let mut bench = Bench::new("web.crt");
    bench.config.services[0].tls = None;
    let authorities = bench.directory.path().join("ca.crt");
    bench.config.services[0].servers[1].tls =
        Some(TlsConnect { authorities: Some(authorities), ..TlsConnect::default() });
    let plan = bench.plan();
    let servers = &plan.services[0].servers;
    assert!(servers[0].source.is_ok());
    assert!(servers[1].source.as_ref().unwrap_err().contains("ca.crt"));
    assert_eq!(plan.faults[0].server.as_deref(), Some("s1"));
    certificate(&bench.directory, "ca.crt");
    let plan = bench.plan();
    assert!(
        matches!(plan.services[0].servers[1].tls, Some(Ok(_))) && plan.services[0].servers[1].source.is_ok()
    );
}

#[test]
fn a_check_names_each_missing_file_with_the_key_that_names_it() {
    let mut bench = Bench::new("web.crt");
    let missing = bench.directory.path().join("missing");
    let connect = TlsConnect { certificate: Some(missing), ..TlsConnect::default() };
    bench.config.services[0].servers[0].tls = Some(TlsConnect { insecure: true, ..connect });
    let entry = AclEntry { permit: false, who: AclMatch::Country(*b"SE") };
    bench.config.acls = vec![Acl { name: "l".to_owned(), entries: vec![entry] }];
    let database = bench.directory.path().join("c.mmdb");
    let problems = check_files(&bench.config, Some(&database));
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["countries", "service[web].tls", "service[web].server[s0].tls"]);
    assert!(problems.iter().all(|problem| problem.what.contains(bench.directory.path().to_str().unwrap())));
    certificate(&bench.directory, "web.crt");
    certificate(&bench.directory, "missing");
    bench.config.acls.clear();
    assert_eq!(check_files(&bench.config, Some(&database)), [], "nobody asks for countries");
}
