//! Access lists in the cluster's file, as lines such as `permit 10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::cluster::ACL_ENTRIES_MAX;
use super::model::{Acl, AclEntry, AclMatch};
use super::problem::{Fault, Report};
use super::section::{Section, Taken, shortened};
use super::values;

/// `[[acl]]`.
pub(super) fn acl(section: &Section<'_>, report: &mut Report<'_>, taken: &mut Taken) -> Option<Acl> {
    section.refuse_unknown(report, &["name", "entries"]);
    let name = section.required(report, "name", "\"office\"", values::name);
    taken.claim(section, report, "name", name.clone());
    let elements = section.list("entries");
    if elements.is_empty() {
        let remedy =
            "add entries = [\"permit 10.0.0.0/8\"]; who is on no entry is treated unlike the last one";
        section.fault(report, "entries", Fault::new("the list is empty", remedy));
    }
    if elements.len() > ACL_ENTRIES_MAX {
        let what = format!("{} entries, and {ACL_ENTRIES_MAX} is the limit", elements.len());
        section.fault(report, "entries", Fault::new(what, "join neighbouring networks"));
    }
    let mut entries = Vec::new();
    for element in elements.into_iter().take(ACL_ENTRIES_MAX) {
        let read = match element.get_ref().as_str() {
            Some(line) => entry(line),
            None => Err(bad_entry("an entry is not a string")),
        };
        match read {
            Ok(entry) => entries.push(entry),
            Err(fault) => report.add(&element.span(), section.key("entries"), fault),
        }
    }
    Some(Acl { name: name?, entries })
}

fn bad_entry(what: impl Into<String>) -> Fault {
    let remedy = "write \"permit 10.0.0.0/8\", \"deny 2001:db8::/32\", \"permit 10.0.0.0 255.0.0.255\" or \
                  \"deny country XX\"";
    Fault::new(what, remedy)
}

fn entry(line: &str) -> Result<AclEntry, Fault> {
    let bad = || bad_entry(format!("\"{}\" is not an entry", shortened(line)));
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (verdict, whom) = words.split_first().ok_or_else(bad)?;
    let permit = match *verdict {
        "permit" => true,
        "deny" => false,
        _ => return Err(bad()),
    };
    let who = match whom {
        ["country", code] => country(code).ok_or_else(bad)?,
        [network] => self::network(network, line)?,
        [address, mask] => {
            let (address, mask) = (address.parse().map_err(|_| bad())?, mask.parse().map_err(|_| bad())?);
            masked(address, mask, line)?
        }
        _ => return Err(bad()),
    };
    Ok(AclEntry { permit, who })
}

fn country(code: &str) -> Option<AclMatch> {
    let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
    let letters = letters.map(|letter| letter.to_ascii_uppercase());
    letters.iter().all(u8::is_ascii_uppercase).then_some(AclMatch::Country(letters))
}

fn network(text: &str, line: &str) -> Result<AclMatch, Fault> {
    let address: Option<IpAddr> = text.parse().ok();
    let network = address.map(IpNet::from).or_else(|| text.parse().ok());
    match network {
        Some(IpNet::V4(network)) => masked(network.addr(), network.netmask(), line),
        Some(IpNet::V6(network)) if network.trunc() != network => Err(stray_bits(line, &network.trunc())),
        Some(IpNet::V6(network)) => {
            Ok(AclMatch::V6 { address: network.addr(), prefix: network.prefix_len() })
        }
        None => Err(bad_entry(format!("\"{}\" is not an entry", shortened(line)))),
    }
}

/// An address with bits that the mask does not let through would fit nobody.
fn masked(address: Ipv4Addr, mask: Ipv4Addr, line: &str) -> Result<AclMatch, Fault> {
    let meant = address & mask;
    if meant != address {
        return Err(match Ipv4Net::with_netmask(meant, mask) {
            Ok(network) => stray_bits(line, &network),
            Err(_) => stray_bits(line, &format!("{meant} {mask}")),
        });
    }
    Ok(AclMatch::V4 { address, mask })
}

fn stray_bits(line: &str, meant: &impl fmt::Display) -> Fault {
    let what = format!("\"{}\" has bits outside its mask, and would fit nobody", shortened(line));
    Fault::new(what, format!("write {meant}"))
}

impl fmt::Display for AclEntry {
    /// As in the file.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.permit { "permit " } else { "deny " })?;
        match &self.who {
            AclMatch::V4 { address, mask } => match Ipv4Net::with_netmask(*address, *mask) {
                Ok(network) if network.prefix_len() == 32 => address.fmt(out),
                Ok(network) => network.fmt(out),
                Err(_) => write!(out, "{address} {mask}"),
            },
            AclMatch::V6 { address, prefix: 128 } => address.fmt(out),
            AclMatch::V6 { address, prefix } => write!(out, "{address}/{prefix}"),
            AclMatch::Country(letters) => {
                write!(out, "country {}{}", char::from(letters[0]), char::from(letters[1]))
            }
        }
    }
}
