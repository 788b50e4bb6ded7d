//! The tables of nf_tables, listed: whose they are stands in their comment.

use std::io;

use super::message::{HEADER, SUBSYSTEM};

/// NFT_MSG_GETTABLE, and what comes of it.
const GET_TABLE: u16 = 1;
const NEW_TABLE: u16 = 0;
/// NLM_F_REQUEST and NLM_F_DUMP.
const REQUEST_DUMP: u16 = 0x301;
/// NLMSG_ERROR and NLMSG_DONE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// NFTA_TABLE_NAME and NFTA_TABLE_USERDATA.
const TABLE_NAME: u16 = 1;
pub(super) const TABLE_DATA: u16 = 6;
/// NFTNL_UDATA_TABLE_COMMENT.
const COMMENT: u8 = 0;
/// Bits of an attribute's kind that do not name it.
const FLAGS: u16 = 0xc000;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table<'b> {
    /// NFPROTO.
    pub(super) family: u8,
    pub(super) name: &'b str,
    /// Empty if it has none.
    pub(super) comment: &'b str,
}

/// A comment as nft keeps it: kind, length, text with its zero. At most 254 bytes.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [COMMENT, length].into_iter().chain(text.bytes()).chain([0]).collect()
}

/// Asks for the tables of all families.
pub(super) fn list_tables() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend((HEADER as u32).to_ne_bytes());
    bytes.extend((SUBSYSTEM << 8 | GET_TABLE).to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    // Number and port; then family, version and resource: any.
    bytes.extend([0; 12]);
    bytes
}

/// What one datagram of the kernel says; true at the end of the list.
///
/// # Errors
/// The kernel's, or what makes no sense.
pub(super) fn tables(mut bytes: &[u8], each: &mut impl FnMut(Table<'_>)) -> io::Result<bool> {
    while let Some(header) = bytes.get(..16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(16..length) else { return Err(io::ErrorKind::InvalidData.into()) };
        match u16::from_ne_bytes([header[4], header[5]]) {
            DONE => return Ok(true),
            ERROR => {
                let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return if code == 0 {
                    Ok(true)
                } else {
                    Err(io::Error::from_raw_os_error(code.saturating_neg()))
                };
            }
            kind if kind == SUBSYSTEM << 8 | NEW_TABLE => table(body).into_iter().for_each(&mut *each),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `nfgenmsg`, then attributes.
fn table(body: &[u8]) -> Option<Table<'_>> {
    let mut table = Table { family: *body.first()?, name: "", comment: "" };
    let mut rest = body.get(HEADER - 16..)?;
    while let Some((kind, value, after)) = attribute(rest) {
        match kind {
            TABLE_NAME => table.name = text(value)?,
            TABLE_DATA => table.comment = first_comment(value).unwrap_or_default(),
            _ => {}
        }
        rest = after;
    }
    Some(table)
}

/// Kind, value, and what comes after it.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [l0, l1, k0, k1] = *bytes.first_chunk()?;
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let value = bytes.get(4..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([k0, k1]) & !FLAGS, value, rest))
}

fn first_comment(mut data: &[u8]) -> Option<&str> {
    loop {
        let [kind, length] = *data.first_chunk()?;
        let value = data.get(2..2 + usize::from(length))?;
        if kind == COMMENT {
            return text(value);
        }
        data = data.get(2 + usize::from(length)..)?;
    }
}

/// Up to its zero.
fn text(value: &[u8]) -> Option<&str> {
    let text = value.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_tables_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = tables(&bytes, &mut |_| {});
        }

        #[test]
        fn a_table_with_any_attributes_is_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = u32::try_from(16 + body.len()).expect("short").to_ne_bytes().to_vec();
            bytes.extend((SUBSYSTEM << 8 | NEW_TABLE).to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(&body);
            let end = tables(&bytes, &mut |_| {}).expect("tables");
            prop_assert!(!end);
        }
    }

    #[test]
    fn the_comment_is_found_behind_other_data() {
        let mut data = vec![7, 2, 1, 1];
        data.extend(comment("ours"));
        assert_eq!(first_comment(&data), Some("ours"));
        assert_eq!(first_comment(&data[..5]), None);
    }
}
