//! Lines, words and numbers as Pen reads them.

use std::net::Ipv4Addr;

/// Longest line of a command, bytes; Pen reads no more of a control connection.
pub const LINE_BYTES_MAX: usize = 4095;

/// The first line of what came in: up to the first CR or LF, or all of it.
#[must_use]
pub fn first_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    &bytes[..end]
}

/// The words of a line: only spaces part them.
pub(super) fn words(line: &str) -> Vec<&str> {
    line.split(' ').filter(|word| !word.is_empty()).collect()
}

/// The number at the beginning of a word, as atoi(3) finds it (what follows the digits is not looked at), bounded to 32
/// bits; `None`: there is no digit.
pub(super) fn number(word: &str) -> Option<i32> {
    let word = word.trim_start_matches([' ', '\t', '\u{b}', '\u{c}']);
    let (negative, digits) = match word.as_bytes().first() {
        Some(b'-') => (true, &word[1..]),
        Some(b'+') => (false, &word[1..]),
        _ => (false, word),
    };
    let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    // Only overflow can fail.
    let size = digits[..end].parse::<i64>().unwrap_or(i64::MAX);
    let value = if negative { -size } else { size };
    Some(i32::try_from(value).unwrap_or(if negative { i32::MIN } else { i32::MAX }))
}

/// atoi(3): no number is 0.
pub(super) fn atoi(word: &str) -> i32 {
    number(word).unwrap_or(0)
}

/// An IPv4 address in all the ways that inet_aton(3) knows: one to four parts, decimal, octal or hexadecimal, the last
/// one filling what is left.
pub(super) fn ipv4(word: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = word.split('.').map(part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let left = 8 * (4 - first.len());
    if *last >= 1 << left {
        return None;
    }
    let high = first.iter().fold(0, |high, part| high << 8 | part);
    u32::try_from(high << left | last).ok().map(Ipv4Addr::from)
}

fn part(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    let valid = digits.chars().all(|c| c.is_digit(radix));
    if !valid { None } else { u64::from_str_radix(digits, radix).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_atoi() {
        let cases = [("12x", Some(12)), (" -4", Some(-4)), ("+7", Some(7)), ("\t7", Some(7)), ("x", None)];
        for (word, value) in cases {
            assert_eq!(number(word), value, "{word:?}");
        }
        assert_eq!(number("99999999999999999999"), Some(i32::MAX));
        assert_eq!(number("-99999999999999999999"), Some(i32::MIN));
        assert_eq!(number("-"), None);
    }

    #[test]
    fn addresses_are_those_of_inet_aton() {
        assert_eq!(ipv4("1.2.3"), Some(Ipv4Addr::new(1, 2, 0, 3)));
        assert_eq!(ipv4("1.2.3.4"), Some(Ipv4Addr::new(1, 2, 3, 4)));
        assert_eq!(ipv4("0x7f.1"), Some(Ipv4Addr::new(127, 0, 0, 1)));
        assert_eq!(ipv4("010.0.0.1"), Some(Ipv4Addr::new(8, 0, 0, 1)));
        assert_eq!(ipv4("4294967295"), Some(Ipv4Addr::BROADCAST));
        for bad in ["", "1.2.3.4.5", "256.1.1.1", "4294967296", "localhost", "1.2.3.", "+1.2.3.4", "0x.1"] {
            assert_eq!(ipv4(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_line_ends_at_the_first_cr_or_lf() {
        assert_eq!(first_line(b"mode\r\npid\n"), b"mode");
        assert_eq!(first_line(b"mode"), b"mode");
        assert_eq!(first_line(b"\nmode"), b"");
    }
}
