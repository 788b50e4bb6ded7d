//! Names and files of this machine, for the pure half.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::{COUNTRIES, FILE_BYTES_MAX, Files, Names};

/// Names of services and their numbers (services(5)).
const SERVICES: &str = "/etc/services";

/// This machine.
#[derive(Debug)]
pub(super) struct System;

impl Names for System {
    fn address(&self, name: &str) -> Option<IpAddr> {
        // An address needs no look-up, and has one meaning only.
        if let Ok(address) = name.parse() {
            return Some(address);
        }
        (name, 0).to_socket_addrs().ok()?.next().map(|address| address.ip())
    }

    fn port(&self, name: &str) -> Option<u16> {
        port(name)
    }
}

/// The port of this number, or of the service of this name.
pub(super) fn port(name: &str) -> Option<u16> {
    name.parse().ok().or_else(|| in_services(&fs::read_to_string(SERVICES).ok()?, name))
}

/// Looks a TCP service up by its name or another of its names.
fn in_services(text: &str, name: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let first = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        (first == name || words.any(|other| other == name)).then(|| port.parse().ok())?
    })
}

impl Files for System {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
        File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() > FILE_BYTES_MAX {
            let error = format!("it is larger than {FILE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
        }
        Ok(bytes)
    }

    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        fs::write(path, text)
    }

    fn countries(&self, named: Option<&Path>) -> Option<PathBuf> {
        let usual = COUNTRIES.iter().map(Path::new).filter(|_| named.is_none());
        named.into_iter().chain(usual).find(|file| file.is_file()).map(Path::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_and_other_names() {
        let text = "# x\ntcpmux 1/tcp\nhttp\t80/tcp www # web\nsyslog 514/udp\n";
        assert_eq!(in_services(text, "http"), Some(80));
        assert_eq!(in_services(text, "www"), Some(80));
        assert_eq!(in_services(text, "syslog"), None);
        assert_eq!(port("8080"), Some(8080));
    }

    #[test]
    fn an_address_is_itself() {
        assert_eq!(System.address("::1"), Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!(System.address("no such name"), None);
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = System.read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
