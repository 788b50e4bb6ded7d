use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
struct Format {
    big_endian: bool,
    nanoseconds: bool,
}

/// Writes a capture: the counterpart of the reader, for its tests only.
fn write(format: Format, records: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let number = |value: u32| if format.big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let half = |value: u16| if format.big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let magic = if format.nanoseconds { MAGIC_NANOSECONDS } else { MAGIC_MICROSECONDS };
    let mut file = Vec::new();
    file.extend(number(magic));
    file.extend(half(2));
    file.extend(half(4));
    for value in [0, 0, 262_144, LINK_TYPE_ETHERNET] {
        file.extend(number(value));
    }
    for (seconds, fraction, bytes) in records {
        for value in [*seconds, *fraction, bytes.len() as u32, bytes.len() as u32 + 1] {
            file.extend(number(value));
        }
        file.extend(bytes);
    }
    file
}

const LITTLE: Format = Format { big_endian: false, nanoseconds: false };

#[test]
fn a_recorded_capture_reads_to_its_end() {
    let file = include_bytes!("../../fixtures/captures/vrrp3-100ms-crash.pcap");
    let records: Vec<Record<'_>> = Reader::new(file).unwrap().map(|record| record.unwrap()).collect();
    assert_eq!(records.len(), 65);
    assert_eq!(records[0].bytes.len(), 46);
    let span_us = (records[64].time_ns - records[0].time_ns) / 1000;
    assert_eq!(span_us / 1000, 5_122);
}

#[test]
fn other_files_are_refused_with_the_reason() {
    assert_eq!(Reader::new(&[]).err(), Some(Error::Truncated(0)));
    let file = write(LITTLE, &[]);
    assert_eq!(Reader::new(&file[..23]).err(), Some(Error::Truncated(23)));
    let mut pcapng = file.clone();
    pcapng[..4].copy_from_slice(&[0x0a, 0x0d, 0x0d, 0x0a]);
    assert_eq!(Reader::new(&pcapng).err(), Some(Error::Magic(0x0a0d_0d0a)));
    let mut version = file.clone();
    version[4] = 3;
    assert_eq!(Reader::new(&version).err(), Some(Error::Version(3)));
    let mut cooked = file;
    cooked[20] = 113;
    assert_eq!(Reader::new(&cooked).err(), Some(Error::LinkType(113)));
}

#[test]
fn a_damaged_record_ends_the_reading_with_its_place() {
    let file = write(LITTLE, &[(1, 2, vec![7; 10]), (1, 3, vec![8; 10])]);
    let second = 24 + 16 + 10;
    let outcome: Vec<_> = Reader::new(&file[..file.len() - 1]).unwrap().collect();
    assert!(outcome[0].is_ok());
    assert_eq!(outcome[1..], [Err(Error::Truncated(second))]);
    for (at, value) in [(second + 4, 0xff), (second + 11, 0xff)] {
        let mut damaged = file.clone();
        damaged[at..at + 1].fill(value);
        damaged[second + 6] = if at == second + 4 { 0x10 } else { 0 };
        let outcome: Vec<_> = Reader::new(&damaged).unwrap().collect();
        assert_eq!(outcome[1..], [Err(Error::Record(second))], "byte {at}");
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        big_endian: bool,
        nanoseconds: bool,
        records in proptest::collection::vec(
            (any::<u32>(), 0u32..1_000_000, proptest::collection::vec(any::<u8>(), 0..80)), 0..8,
        ),
    ) {
        let file = write(Format { big_endian, nanoseconds }, &records);
        let read: Vec<Record<'_>> = Reader::new(&file).unwrap().map(|record| record.unwrap()).collect();
        prop_assert_eq!(read.len(), records.len());
        let unit = if nanoseconds { 1 } else { 1000 };
        for (read, (seconds, fraction, bytes)) in read.iter().zip(&records) {
            prop_assert_eq!(read.bytes, &bytes[..]);
            prop_assert_eq!(read.time_ns, u64::from(*seconds) * NANOS_PER_SECOND + u64::from(*fraction) * unit);
            prop_assert_eq!(read.original_length as usize, bytes.len() + 1);
        }
    }
}
