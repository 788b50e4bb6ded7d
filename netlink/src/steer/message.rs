//! Netlink messages of nf_tables as bytes: a batch is taken whole or not at all. Attributes are in network byte order, headers in
//! the host's (linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h).

/// A family of nf_tables (NFPROTO).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Ip = 2,
    Arp = 3,
    Ip6 = 10,
}

/// How many families we use.
pub(super) const FAMILIES: usize = 3;

impl Family {
    /// The one of this number, if we use it.
    pub(super) fn of(number: u8) -> Option<Self> {
        [Self::Ip, Self::Arp, Self::Ip6].into_iter().find(|family| *family as u8 == number)
    }

    /// Its word in nft's language.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Ip6 => "ip6",
        }
    }
}

/// What is asked of nf_tables (NFT_MSG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    DeleteChain = 5,
    NewRule = 6,
    NewSet = 9,
    DeleteSet = 11,
    NewElements = 12,
    DeleteElements = 14,
}

/// NFNL_SUBSYS_NFTABLES.
pub(super) const SUBSYSTEM: u16 = 10;
/// NFNL_MSG_BATCH_BEGIN and _END.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// `nlmsghdr` and `nfgenmsg`, bytes.
pub(super) const HEADER: usize = 20;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
/// It must not be there yet.
const EXCLUSIVE: u16 = 0x200;
const APPEND: u16 = 0x800;
/// An attribute with attributes in it (NLA_F_NESTED).
const NESTED: u16 = 0x8000;

/// One transaction.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    /// Where the last message begins.
    last: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: 0, last: 0 };
        batch.message(BEGIN, REQUEST, 0, SUBSYSTEM, |_| {});
        batch
    }

    /// Adds a message, filled in by `fill`.
    pub(super) fn ask(&mut self, ask: Ask, family: Family, fill: impl FnOnce(&mut Attributes<'_>)) {
        let more = match ask {
            Ask::NewTable => CREATE | EXCLUSIVE,
            Ask::NewChain | Ask::NewSet | Ask::NewElements => CREATE,
            Ask::NewRule => CREATE | APPEND,
            Ask::DeleteTable | Ask::DeleteChain | Ask::DeleteSet | Ask::DeleteElements => 0,
        };
        self.message(SUBSYSTEM << 8 | ask as u16, REQUEST | more, family as u8, 0, fill);
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.last = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        // The port: the kernel fills it in. Then family, version 0, and the resource.
        self.bytes.extend([0, 0, 0, 0, family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(&mut Attributes { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// The bytes, and the number of the message whose answer says that all is done.
    pub(super) fn finish(mut self) -> (Vec<u8>, u32) {
        let flags = self.last + 6;
        if let Some(field) = self.bytes.get_mut(flags..flags + 2) {
            let with_ack = u16::from_ne_bytes([field[0], field[1]]) | ACK;
            field.copy_from_slice(&with_ack.to_ne_bytes());
        }
        let awaited = self.sequence;
        self.message(END, REQUEST, 0, SUBSYSTEM, |_| {});
        (self.bytes, awaited)
    }
}

/// The attributes of a message, or of one of its attributes.
pub(super) struct Attributes<'b> {
    bytes: &'b mut Vec<u8>,
}

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let value: Vec<u8> = value.bytes().chain([0]).collect();
        self.bytes(kind, &value);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute with others in it. What is in it must be shorter than 64 KiB.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        fill(&mut Attributes { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// What the kernel says to a message: its number, and 0 or the error. The rest of the answers after it.
///
/// `None` where there is no further answer, or none that makes sense.
pub(super) fn answer(bytes: &[u8]) -> Option<(u32, i32, &[u8])> {
    /// NLMSG_ERROR.
    const ERROR: u16 = 2;
    let length = usize::try_from(word(bytes, 0)?).ok()?;
    let kind = bytes.get(4..6)?;
    let code = word(bytes, 16)?.cast_signed();
    let is_answer = u16::from_ne_bytes([kind[0], kind[1]]) == ERROR && length >= HEADER;
    is_answer.then(|| {
        let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        (word(bytes, 8).unwrap_or(0), code, rest)
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}
