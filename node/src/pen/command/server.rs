//! `server N …`.

use super::{Answer, Refusal, Run, done, refuse, whole};
use crate::pen::answers::Effect;
use crate::pen::model::{Host, SLOTS_MAX, ServerId, Slot};
use crate::pen::words::number;

/// How `write` shows a slot without a server; the words after it mean nothing.
const UNSET_WORD: &str = "(unknown";

impl Run<'_> {
    /// Any number of pairs in any order. As in Pen, what stands before a wrong one is done; an unknown key is passed over;
    /// an address that is none stops the rest.
    pub(super) fn server(&mut self, args: &[&str]) -> Answer {
        let Some((slot, pairs)) = args.split_first() else { return refuse("server: which one?") };
        let given = whole("server", slot)?;
        let Some(slot) = usize::try_from(given).ok().filter(|slot| *slot < SLOTS_MAX) else {
            return refuse(format!("server: {given} is not from 0 to {}", SLOTS_MAX - 1));
        };
        if self.pen.servers.len() <= slot {
            self.pen.servers.resize_with(slot + 1, Slot::default);
        }
        self.changed = true;
        let mut wrong = None;
        for pair in pairs.chunks(2) {
            if *pair == ["address", UNSET_WORD] {
                break;
            }
            let done = match pair {
                [key, value] => self.server_pair(slot, key, value)?,
                [key, ..] => Err(format!("server: '{key}' without a value")),
                [] => Ok(()),
            };
            wrong = wrong.or(done.err());
        }
        wrong.map_or_else(done, refuse)
    }

    /// `Ok(Err(_))`: this pair is wrong, and the next ones count all the same.
    fn server_pair(&mut self, slot: usize, key: &str, value: &str) -> Result<Result<(), String>, Refusal> {
        if key == "address" {
            let host = self.host(value)?;
            self.pen.servers[slot].host = host;
            return Ok(Ok(()));
        }
        if key == "port" {
            let Some(port) = self.port(value) else {
                return Ok(Err(format!("server: '{value}' is not a port")));
            };
            self.pen.servers[slot].port = port;
            return Ok(Ok(()));
        }
        let known = ["acl", "max", "hard", "blacklist", "weight", "prio"].contains(&key);
        if !known {
            return Ok(Err(format!("server: there is no '{key}' to set")));
        }
        let Some(value) = number(value) else {
            return Ok(Err(format!("server: {key}: '{value}' is not a number")));
        };
        let server = &mut self.pen.servers[slot];
        match key {
            "acl" => server.acl = value,
            "max" => server.max = value,
            "hard" => server.hard = value,
            "weight" => server.weight = value,
            "prio" => server.prio = value,
            _ => {
                let seconds = u32::try_from(value).unwrap_or(0);
                self.effects.push(Effect::Blacklist { server: ServerId::Regular(slot), seconds });
            }
        }
        Ok(Ok(()))
    }

    fn host(&self, word: &str) -> Result<Host, Refusal> {
        let found = Host::find(word, self.around.names);
        found.map_or_else(|| refuse(format!("server: unknown or invalid address [{word}]")), Ok)
    }

    fn port(&self, word: &str) -> Option<u16> {
        match number(word) {
            Some(port) => u16::try_from(port).ok(),
            None => self.around.names.port(word),
        }
    }
}
