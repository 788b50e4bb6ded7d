//! Pen's own public test suite, run against our `pen` and `penctl`.
//!
//! The script is not ours and not here: `PEN_SUITE=/path/to/testsuite.sh` names it. The lab is what the end of the script
//! asks for: web servers on ports 100 to 103, a second address, and a name server that gives each of the two networks an
//! answer of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cygnet_lab::pen::{self, Installed};
use cygnet_lab::{command, enter};

/// Names the script.
const VARIABLE: &str = "PEN_SUITE";
/// What each port's web server says.
const PAGES: [(u16, &str); 4] = [(100, "100"), (101, "101"), (102, "Emergency"), (103, "Abuse")];
/// The sections that need nothing but this machine. The others want remote ones, and say nothing without them.
const SECTIONS: [&str; 11] = [
    "Testing TCP with IP-based client tracking",
    "Testing TCP without client tracking",
    "Testing UDP with IP-based client tracking",
    "Testing UDP without client tracking",
    "Testing failover with UDP",
    "Testing emergency server",
    "Testing abuse server",
    "Testing SSL termination",
    "Testing IPv6 to IPv4 conversion",
    "Testing IPv4 to IPv6 conversion",
    "Testing signal handling",
];

#[test]
fn pens_own_test_suite_passes() -> Result<()> {
    let Some(script) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        eprintln!("SKIPPED: set {VARIABLE} to the path of Pen's testsuite.sh (docs/pen-compatibility.md)");
        return Ok(());
    };
    enter::lab(|| {
        ensure!(enter::is_root(), "the suite needs ports below 1024 and another user");
        pen::add_addresses()?;
        for (port, text) in PAGES {
            pen::serve_page(port, text)?;
        }
        for address in ["127.0.0.1:53", "10.0.2.15:53"] {
            pen::serve_names(address.parse()?)?;
        }
        let installed = Installed::new("suite")?;
        std::fs::copy(&script, installed.folder().join("testsuite.sh"))
            .with_context(|| script.display().to_string())?;
        make_certificate(installed.folder())?;
        let said = run(installed.folder())?;
        println!("{said}");
        for section in SECTIONS {
            let rest = said.split_once(section).with_context(|| format!("{section}: did not run"))?.1;
            let own = rest.split("\nTesting ").next().unwrap_or_default();
            ensure!(own.contains("Success"), "{section}: no success");
        }
        Ok(())
    })
}

/// The certificate that the suite brings has 1024 bits and an MD5 signature, which today's libraries refuse on both
/// sides; ours has the same name.
fn make_certificate(folder: &Path) -> Result<()> {
    let file = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"];
    command::run("openssl", &[&args[..], &["-keyout", &key, "-out", &certificate]].concat())?;
    let both = std::fs::read_to_string(&key)? + &std::fs::read_to_string(&certificate)?;
    std::fs::write(folder.join("siag.pem"), both)?;
    Ok(())
}

/// Runs the script as an ordinary user: Pen opens no control port as root.
fn run(folder: &Path) -> Result<String> {
    command::run("chown", &["-R", "nobody", &folder.display().to_string()])?;
    let output = Command::new("setpriv")
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "./testsuite.sh"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .output()?;
    let said = pen::said(&output);
    ensure!(output.status.success(), "the suite ended with {}:\n{said}", output.status);
    Ok(said)
}
