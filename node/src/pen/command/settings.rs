//! Commands that set a value and show it.

use std::path::PathBuf;

use super::{Answer, Refusal, Run, done, line, needed, refuse, whole};
use crate::config::model::FastClose;
use crate::pen::answers::Effect;
use crate::pen::model::{ACLS, CLIENTS_MAX, CONNECTIONS_MAX, Events, Pen, listen_address};

impl Run<'_> {
    pub(super) fn setting(&mut self, word: &str, args: &[&str]) -> Answer {
        match word {
            "blacklist" | "debug" | "timeout" | "tracking" => self.number(word, args),
            "client_acl" | "control_acl" | "tarpit_acl" => self.list(word, args),
            "clients_max" | "conn_max" | "idle_timeout" | "pending_max" => self.limit(word, args),
            "dsr_if" => self.direct(args),
            "dsr_ip" => {
                self.pen.dsr_ip = Some(needed(word, args)?.to_owned());
                done()
            }
            "epoll" => self.events(Events::Epoll),
            "kqueue" => self.events(Events::Kqueue),
            "poll" => self.events(Events::Poll),
            "select" => self.events(Events::Select),
            "listen" => self.listen(args),
            "source" => self.source(args),
            "tcp_fastclose" => self.fast_close(args),
            "ssl_ciphers"
            | "ssl_client_renegotiation_interval"
            | "ssl_ocsp_response"
            | "ssl_option"
            | "ssl_sni_path" => self.tls(word, args),
            _ => Err(Refusal::Pens(format!("do_cmd: ignoring command starting with '{word}'\n"))),
        }
    }

    /// Takes rights that are given up at the start, so that it is too late afterwards. A file that is read again may say it
    /// again.
    fn direct(&mut self, args: &[&str]) -> Answer {
        let interface = needed("dsr_if", args)?;
        if self.around.facts.is_running() && self.pen.dsr_if.as_deref() != Some(interface) {
            return refuse("dsr_if: only at the start, with -O or in the file of -F");
        }
        self.pen.dsr_if = Some(interface.to_owned());
        done()
    }

    fn number(&mut self, word: &str, args: &[&str]) -> Answer {
        let value = match word {
            "blacklist" => &mut self.pen.blacklist,
            "debug" => &mut self.pen.debug,
            "timeout" => &mut self.pen.timeout,
            _ => &mut self.pen.tracking,
        };
        if let Some(given) = args.first() {
            *value = whole(word, given)?;
            self.changed = true;
        }
        Ok(line(*value))
    }

    fn list(&mut self, word: &str, args: &[&str]) -> Answer {
        if let Some(given) = args.first() {
            let given = whole(word, given)?;
            let list = usize::try_from(given).ok().filter(|list| *list < ACLS).unwrap_or(0);
            match word {
                "client_acl" => self.pen.client_acl = list,
                "control_acl" => self.pen.control_acl = list,
                // -1 turns it off.
                _ => self.pen.tarpit_acl = (given != -1).then_some(list),
            }
            self.changed = true;
        }
        match word {
            "client_acl" => Ok(line(self.pen.client_acl)),
            "control_acl" => Ok(line(self.pen.control_acl)),
            _ => {
                let list = self.pen.tarpit_acl.map_or_else(|| "-1".to_owned(), |list| list.to_string());
                Ok(format!("tarpit_acl = {list}"))
            }
        }
    }

    fn limit(&mut self, word: &str, args: &[&str]) -> Answer {
        let given = args.first().map(|given| whole(word, given)).transpose()?;
        self.changed |= given.is_some();
        let pen = &mut *self.pen;
        match word {
            "clients_max" => {
                grow(word, &mut pen.clients_max, given, CLIENTS_MAX)?;
                Ok(line(pen.clients_max))
            }
            "conn_max" => {
                grow(word, &mut pen.conn_max, given, CONNECTIONS_MAX)?;
                Ok(line(pen.conn_max))
            }
            "idle_timeout" => {
                pen.idle_timeout = given.unwrap_or(pen.idle_timeout).max(0);
                Ok(format!("Idle timeout: {} seconds\n", pen.idle_timeout))
            }
            _ => {
                let Some(given) = given else { return refuse("pending_max: an argument is missing") };
                pen.pending_max = given.max(1);
                done()
            }
        }
    }

    fn events(&mut self, events: Events) -> Answer {
        self.pen.events = events;
        done()
    }

    fn listen(&mut self, args: &[&str]) -> Answer {
        if let Some(words) = args.first() {
            match listen_address(words, self.pen.dsr_if.is_some(), self.around.names) {
                Ok(endpoint) => self.pen.listen = Some(endpoint),
                Err(why) => return refuse(format!("listen: {why}")),
            }
            self.pen.listen_words = Some((*words).to_owned());
            self.changed = true;
            if !self.effects.contains(&Effect::Listen) {
                self.effects.push(Effect::Listen);
            }
        }
        Ok(line(self.pen.listen_words.as_deref().unwrap_or_default()))
    }

    fn source(&mut self, args: &[&str]) -> Answer {
        let word = needed("source", args)?;
        self.pen.source = self.around.names.address(word);
        self.changed = true;
        match self.pen.source {
            Some(_) => done(),
            None => Err(Refusal::Pens(format!("unable to set source address to '{word}'"))),
        }
    }

    fn fast_close(&mut self, args: &[&str]) -> Answer {
        let Some(word) = args.first() else {
            let answer = "do_cmd: ignoring tcp_fastclose without argument\n";
            return Err(Refusal::Pens(answer.to_owned()));
        };
        self.changed = true;
        let (side, known) = match *word {
            "up" => (FastClose::Up, true),
            "down" => (FastClose::Down, true),
            "both" => (FastClose::Both, true),
            other => (FastClose::Off, other == "off"),
        };
        self.pen.fast_close = side;
        if known {
            done()
        } else {
            refuse(format!("tcp_fastclose: '{word}' is not up, down, both or off: now off"))
        }
    }

    fn tls(&mut self, word: &str, args: &[&str]) -> Answer {
        let value = needed(word, args)?;
        let tls = &mut self.pen.tls;
        match word {
            "ssl_ciphers" => tls.ciphers = Some(value.to_owned()),
            "ssl_client_renegotiation_interval" => tls.renegotiation_interval = whole(word, value)?,
            "ssl_ocsp_response" => {
                tls.ocsp = Some(PathBuf::from(value));
                self.effects.push(Effect::ReadOcsp);
            }
            "ssl_sni_path" => tls.names = Some(PathBuf::from(value)),
            _ => ssl_option(self.pen, value)?,
        }
        self.changed = true;
        done()
    }
}

/// `ssl_option`: they add up.
fn ssl_option(pen: &mut Pen, option: &str) -> Result<(), Refusal> {
    match option {
        // Nobody speaks these any more.
        "no_sslv2" | "no_sslv3" => {}
        "no_tlsv1" => pen.tls.no_tls10 = true,
        "no_tlsv1.1" => pen.tls.no_tls11 = true,
        "no_tlsv1.2" => pen.tls.no_tls12 = true,
        "cipher_server_preference" => pen.tls.prefer_own_order = true,
        _ => return refuse(format!("ssl_option: there is no '{option}'")),
    }
    Ok(())
}

/// Tables only grow.
fn grow(command: &str, size: &mut i32, given: Option<i32>, limit: i32) -> Result<(), Refusal> {
    let Some(given) = given else { return Ok(()) };
    if given > limit {
        return refuse(format!("{command}: {given} is more than {limit}"));
    }
    *size = given.max(*size);
    Ok(())
}
