//! `acl` and `no acl`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Answer, Refusal, Run, done, refuse, whole};
use crate::config::model::{AclEntry, AclMatch};
use crate::pen::model::{ACL_ENTRIES_MAX, ACLS, COUNTRIES};
use crate::pen::words::{atoi, ipv4};

/// Bits of an IPv6 address.
const IPV6_BITS: u8 = 128;

impl Run<'_> {
    pub(super) fn acl(&mut self, args: &[&str]) -> Answer {
        let [list, verb, what @ ..] = args else {
            return refuse("acl: expected acl N permit|deny ADDRESS");
        };
        let list = list_number("add_acl", list)?;
        let permit = match *verb {
            "permit" => true,
            "deny" => false,
            _ => return refuse("acl: expected permit|deny"),
        };
        let who = self.who(what)?;
        let entries = &mut self.pen.acls[list];
        if entries.len() >= ACL_ENTRIES_MAX {
            return refuse(format!("acl: list {list} is full; {ACL_ENTRIES_MAX} entries are the limit"));
        }
        entries.push(AclEntry { permit, who });
        self.changed = true;
        done()
    }

    pub(super) fn no_acl(&mut self, args: &[&str]) -> Answer {
        let Some(list) = args.first() else { return refuse("no acl: which list?") };
        let list = list_number("del_acl", list)?;
        self.pen.acls[list].clear();
        self.changed = true;
        done()
    }

    fn who(&self, what: &[&str]) -> Result<AclMatch, Refusal> {
        match what {
            [] => refuse("acl: an address is missing"),
            ["country", code, ..] => self.country(code),
            ["country"] => refuse("acl: expected country"),
            [address, ..] if address.contains(':') => ipv6(address),
            [address, mask @ ..] => {
                let Some(found) = ipv4(address) else {
                    return refuse(format!("acl: bogus address '{address}'"));
                };
                let mask = match mask.first() {
                    None => Ipv4Addr::BROADCAST,
                    Some(word) => match ipv4(word) {
                        Some(mask) => mask,
                        None => return refuse(format!("acl: bogus mask '{word}'")),
                    },
                };
                Ok(AclMatch::V4 { address: found, mask })
            }
        }
    }
}

impl Run<'_> {
    fn country(&self, code: &str) -> Result<AclMatch, Refusal> {
        let who = country(code)?;
        let named = self.pen.countries.as_deref();
        if self.around.facts.has_countries() || self.around.files.countries(named).is_some() {
            return Ok(who);
        }
        let places = named.map_or_else(|| COUNTRIES.join(" or "), |file| file.display().to_string());
        refuse(format!(
            "acl: no country database in {places}; install one there, or name it with --countries"
        ))
    }
}

fn list_number(whose: &str, word: &str) -> Result<usize, Refusal> {
    let number = whole("acl", word)?;
    let list = usize::try_from(number).ok().filter(|list| *list < ACLS);
    list.map_or_else(|| refuse(format!("{whose}: {number} outside (0,{ACLS})")), Ok)
}

fn country(code: &str) -> Result<AclMatch, Refusal> {
    match code.as_bytes() {
        [first, second] if code.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            Ok(AclMatch::Country([first.to_ascii_uppercase(), second.to_ascii_uppercase()]))
        }
        _ => refuse(format!("acl: '{code}' is not a country of two letters")),
    }
}

fn ipv6(word: &str) -> Result<AclMatch, Refusal> {
    let (address, length) =
        word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
    let Ok(found) = address.parse::<Ipv6Addr>() else {
        return refuse(format!("acl: can't convert address {address}"));
    };
    let prefix = match length {
        None => IPV6_BITS,
        Some(bits) => match u8::try_from(atoi(bits)) {
            Ok(prefix) if prefix <= IPV6_BITS && bits.starts_with(|c: char| c.is_ascii_digit()) => prefix,
            _ => return refuse(format!("acl: '{bits}' is not a prefix length of 0 to {IPV6_BITS}")),
        },
    };
    Ok(AclMatch::V6 { address: found, prefix })
}
