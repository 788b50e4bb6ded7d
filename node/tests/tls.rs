//! TLS of a whole node by others' word: sslscan and the `openssl` command.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod node;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use node::{Node, Servers, until};
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use tempfile::TempDir;

/// Runs a tool in the folder of the certificates; what it says, on both outputs.
fn tool(folder: &Path, program: &str, arguments: &str) -> (bool, String) {
    let mut command = Command::new(program);
    let output =
        command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn make(folder: &Path, arguments: &str) {
    let (done, said) = tool(folder, "openssl", arguments);
    assert!(done, "openssl {arguments}: {said}");
}

/// A certificate `NAME.crt` with `NAME.key`, signed by `by` or by itself.
fn certificate(folder: &Path, name: &str, by: Option<&str>, extension: &str) {
    let by = by.map_or_else(String::new, |by| format!("-CA {by}.crt -CAkey {by}.key"));
    let key = format!("-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.new.key");
    let arguments =
        format!("req -x509 -days 9 -subj /CN={name} -addext {extension} {key} -out {name}.new.crt {by}");
    make(folder, arguments.trim_end());
    for ending in ["key", "crt"] {
        std::fs::rename(folder.join(format!("{name}.new.{ending}")), folder.join(format!("{name}.{ending}")))
            .unwrap();
    }
}

/// A node that ends TLS with a certificate for `web.test`, two steps below a root, and these lines in its `tls` table.
struct Stand {
    folder: TempDir,
    node: Node,
}

const AUTHORITY: &str = "keyUsage=critical,keyCertSign,digitalSignature";

impl Stand {
    fn new(lines: &str) -> Self {
        let folder = TempDir::new().unwrap();
        certificate(folder.path(), "root", None, AUTHORITY);
        certificate(folder.path(), "authority", Some("root"), AUTHORITY);
        certificate(folder.path(), "web.test", Some("authority"), "subjectAltName=DNS:web.test");
        let mut node = Node::new("source = \"127.0.0.1\"");
        node.start();
        let at = folder.path().display();
        let servers = Servers::start(["s1"]);
        node.apply(&format!(
            "{}[service.tls]\ncertificate = \"{at}/web.test.crt\"\nkey = \"{at}/web.test.key\"\n\
             chain = \"{at}/authority.crt\"\n{}",
            node.service(&servers),
            lines.replace("FOLDER", &at.to_string()),
        ));
        until("it listens", || std::net::TcpStream::connect(node.listen()).is_ok());
        Self { folder, node }
    }

    /// `openssl s_client` until the server closes.
    fn client(&self, arguments: &str) -> (bool, String) {
        let basic = "-servername web.test -CAfile root.crt -verify_return_error -ign_eof";
        let arguments = format!("s_client -connect {} {basic} {arguments}", self.node.listen());
        tool(self.folder.path(), "openssl", arguments.trim_end())
    }
}

#[test]
fn sslscan_finds_nothing_weak_in_the_defaults() {
    let stand = Stand::new("");
    let (done, said) = tool(
        stand.folder.path(),
        "sslscan",
        &format!("--no-colour --show-sigs --sni-name=web.test {}", stand.node.listen()),
    );
    assert!(done, "{said}");
    let has = |words: &[&str]| {
        said.lines().any(|line| {
            line.split_whitespace().collect::<Vec<_>>().windows(words.len()).any(|part| part == words)
        })
    };
    for (protocol, state) in [
        ("SSLv2", "disabled"),
        ("SSLv3", "disabled"),
        ("TLSv1.0", "disabled"),
        ("TLSv1.1", "disabled"),
        ("TLSv1.2", "enabled"),
        ("TLSv1.3", "enabled"),
    ] {
        assert!(has(&[protocol, state]), "{protocol} {state}: {said}");
    }
    // Debian's library cannot compress, so its sslscan cannot ask for it.
    assert!(!said.contains("Compression enabled"), "{said}");
    assert!(said.contains("renegotiation not supported"), "{said}");
    let ciphers: Vec<&str> =
        said.lines().filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted")).collect();
    assert!(ciphers.len() >= 5, "{said}");
    for line in &ciphers {
        let forward = line.contains("TLSv1.3") || line.contains("ECDHE-");
        let authenticated = line.contains("GCM") || line.contains("CHACHA20") || line.contains("POLY1305");
        assert!(forward && authenticated, "{line}");
    }
    assert!(
        ciphers.iter().any(|line| line.starts_with("Preferred") && line.contains("AES128-GCM-SHA256")),
        "{said}"
    );
    let section = |head: &str| -> Vec<&str> {
        let lines = said.lines().skip_while(|line| !line.contains(head)).skip(1);
        lines.take_while(|line| !line.trim().is_empty()).collect()
    };
    let groups = section("Server Key Exchange Group(s)");
    assert!(!groups.is_empty(), "{said}");
    for line in groups {
        assert!(["x25519", "secp256r1", "secp384r1"].iter().any(|good| line.contains(good)), "{line}");
    }
    let signatures = section("Server Signature Algorithm(s)");
    assert!(!signatures.is_empty(), "{said}");
    for line in signatures {
        let weak =
            ["sha1", "sha224", "md5", "dsa_sha1"].iter().any(|weak| line.to_lowercase().contains(weak));
        assert!(!weak, "{line}");
    }
}

#[test]
fn the_openssl_command_verifies_the_chain_and_gets_the_service() {
    let stand = Stand::new("");
    for version in ["-tls1_2", "-tls1_3"] {
        let (_, said) = stand.client(version);
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("1 s:CN = authority"), "the chain is sent: {said}");
        assert!(!said.contains("2 s:"), "but not the root: {said}");
        assert!(said.contains("s1"), "{said}");
        assert!(said.contains("No ALPN negotiated") && said.contains("Compression: NONE"), "{said}");
    }
    for version in ["-tls1_1", "-cipher AES128-SHA -tls1_2"] {
        let (done, said) = stand.client(version);
        assert!(!done && !said.contains("s1"), "{said}");
    }
}

#[test]
fn the_openssl_command_resumes_its_sessions() {
    let stand = Stand::new("");
    for version in ["-tls1_2", "-tls1_3"] {
        let (_, said) = stand.client(&format!("{version} -sess_out session"));
        assert!(said.contains("New, TLSv1."), "{said}");
        let (_, said) = stand.client(&format!("{version} -sess_in session"));
        assert!(said.contains("Reused, TLSv1."), "{said}");
        assert!(said.contains("s1"), "{said}");
    }
}

#[test]
fn the_openssl_command_is_refused_without_a_client_certificate() {
    let stand = Stand::new("client_authorities = \"FOLDER/root.crt\"\nclient_required = true\n");
    let (_, said) = stand.client("");
    assert!(said.contains("Acceptable client certificate CA names"), "{said}");
    assert!(said.to_lowercase().contains("certificate required") && !said.contains("s1"), "{said}");
    certificate(stand.folder.path(), "alice", Some("root"), "keyUsage=digitalSignature");
    let (_, said) = stand.client("-cert alice.crt -key alice.key");
    assert!(said.contains("s1"), "{said}");
}

/// A client of the library, which takes any certificate.
fn connect(at: SocketAddr) -> SslStream<std::net::TcpStream> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let stream = std::net::TcpStream::connect(at).unwrap();
    connector.build().connect("web.test", stream).unwrap()
}

fn serial(stream: &SslStream<std::net::TcpStream>) -> Vec<u8> {
    let certificate = stream.ssl().peer_certificate().unwrap();
    certificate.serial_number().to_bn().unwrap().to_vec()
}

#[test]
fn a_renewed_certificate_is_in_use_within_seconds_and_no_connection_ends() {
    let stand = Stand::new("");
    // A server that waits for a question, so that this connection is there all the time.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = stand.folder.path().display();
    let server = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut question = [0; 4];
                if stream.read_exact(&mut question).is_ok() {
                    stream.write_all(&question).unwrap();
                }
            });
        }
    });
    stand.node.apply(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"{}\"]\n[[service.server]]\nname = \"s1\"\naddress = \"{server}\"\n\
         [service.tls]\ncertificate = \"{at}/web.test.crt\"\nkey = \"{at}/web.test.key\"\nchain = \"{at}/authority.crt\"\n",
        stand.node.listen(),
    ));
    let mut old = connect(stand.node.listen());
    let before = serial(&old);
    certificate(stand.folder.path(), "web.test", Some("authority"), "subjectAltName=DNS:web.test");
    until("new connections get the new certificate", || serial(&connect(stand.node.listen())) != before);
    old.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    old.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    assert!(stand.node.cygnet(&["events"]).out.contains("are in use"));
}
