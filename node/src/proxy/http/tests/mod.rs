mod answers;
mod lenient;
mod requests;
mod smuggling;

use std::net::IpAddr;
use std::sync::Arc;

use super::{Filter, HttpPlan, Output, Refusal};
use crate::config::model::{Forwarded, Http};

const CLIENT: [u8; 4] = [192, 0, 2, 7];
/// What our own lines are in front of.
const OWN: &str = "X-Forwarded-Proto: http\r\nX-Forwarded-For: 192.0.2.7\r\n";

/// A connection through a filter: what came out on either side.
struct Exchange {
    filter: Filter,
    out: Output,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    refusal: Option<Refusal>,
}

impl Exchange {
    fn new(http: &Http) -> Self {
        Self::of(http, false)
    }

    fn of(http: &Http, https: bool) -> Self {
        Self {
            filter: Filter::new(&Arc::new(HttpPlan::new(http)), IpAddr::from(CLIENT), https),
            out: Output::default(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            refusal: None,
        }
    }

    fn strict() -> Self {
        Self::new(&Http { forwarded: Forwarded::Replace, ..Http::default() })
    }

    fn lenient() -> Self {
        Self::new(&Http { forwarded: Forwarded::IfAbsent, lenient: true, ..Http::default() })
    }

    /// After a refusal nothing more comes.
    fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        if self.refusal.is_none() {
            self.out.clear();
            self.refusal = self.filter.request(bytes.as_ref(), &mut self.out).err();
            self.out.append_to(bytes.as_ref(), &mut self.to_server);
        }
        self
    }

    fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        if self.refusal.is_none() {
            self.out.clear();
            self.refusal = self.filter.response(bytes.as_ref(), &mut self.out).err();
            self.out.append_to(bytes.as_ref(), &mut self.to_client);
        }
        self
    }

    fn client_ends(&mut self) -> &mut Self {
        if self.refusal.is_none() {
            self.out.clear();
            self.refusal = self.filter.request_end(&mut self.out).err();
            self.out.append_to(b"", &mut self.to_server);
        }
        self
    }

    fn server_ends(&mut self) -> &mut Self {
        if self.refusal.is_none() {
            self.out.clear();
            self.refusal = self.filter.response_end(&mut self.out).err();
            self.out.append_to(b"", &mut self.to_client);
        }
        self
    }

    fn at_server(&self) -> &str {
        std::str::from_utf8(&self.to_server).expect("text")
    }

    fn at_client(&self) -> &str {
        std::str::from_utf8(&self.to_client).expect("text")
    }

    fn status(&self) -> Option<u16> {
        self.refusal.as_ref().map(|refusal| refusal.status)
    }

    #[track_caller]
    fn goes_on(&self) {
        assert_eq!(self.refusal, None);
    }
}
