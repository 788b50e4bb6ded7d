//! With a database that the tests write themselves, byte by byte.

use std::collections::HashMap;

use ipnet::IpNet;

use super::*;

/// A network and what is known of it: `country.iso_code`.
pub(crate) type Network = (IpNet, &'static str);

pub(crate) fn network(text: &str, country: &'static str) -> Network {
    (text.parse().expect("a network"), country)
}

/// A database of these networks, the longer prefixes last.
pub(crate) fn database(networks: &[Network]) -> Vec<u8> {
    database_of("Test-Country", networks, |code| map(&[("country", map(&[("iso_code", text(code))]))]))
}

/// One side of a node of the search tree.
#[derive(Clone, Copy)]
enum Side {
    Empty,
    Node(usize),
    Data(usize),
}

fn database_of(kind: &str, networks: &[Network], record: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let (mut data, mut offsets) = (Vec::new(), HashMap::new());
    let mut nodes = vec![[Side::Empty; 2]];
    for (net, country) in networks {
        let offset = *offsets.entry(*country).or_insert_with(|| {
            let offset = data.len();
            data.extend(record(country));
            offset
        });
        let (bits, length) = match net {
            IpNet::V4(net) => (u128::from(net.network().to_bits()), 96 + net.prefix_len()),
            IpNet::V6(net) => (net.network().to_bits(), net.prefix_len()),
        };
        insert(&mut nodes, bits, length, offset);
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for side in nodes.iter().flatten() {
        let value = match side {
            Side::Empty => count,
            Side::Node(node) => *node,
            Side::Data(offset) => count + 16 + offset,
        };
        file.extend(&u32::try_from(value).expect("small").to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.extend(map(&[
        ("binary_format_major_version", vec![0xa1, 2]),
        ("binary_format_minor_version", vec![0xa0]),
        ("build_epoch", vec![0x01, 0x02, 1]),
        ("database_type", text(kind)),
        ("description", map(&[])),
        ("ip_version", vec![0xa1, 6]),
        ("languages", vec![0x00, 0x04]),
        ("node_count", [vec![0xc4], u32::try_from(count).expect("small").to_be_bytes().to_vec()].concat()),
        ("record_size", vec![0xa1, 24]),
    ]));
    file
}

/// Puts a network into the tree. What was there for a shorter prefix stays for the rest of it.
fn insert(nodes: &mut Vec<[Side; 2]>, bits: u128, length: u8, offset: usize) {
    let mut node = 0;
    for depth in 0..length {
        let side = usize::from(bits >> (127 - depth) & 1 == 1);
        if depth + 1 == length {
            nodes[node][side] = Side::Data(offset);
            return;
        }
        node = match nodes[node][side] {
            Side::Node(next) => next,
            before => {
                nodes.push([before; 2]);
                nodes[node][side] = Side::Node(nodes.len() - 1);
                nodes.len() - 1
            }
        };
    }
}

fn text(value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("short");
    assert!(length < 29);
    [&[0x40 | length], value.as_bytes()].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xe0 | u8::try_from(pairs.len()).expect("few")];
    for (key, value) in pairs {
        bytes.extend(text(key));
        bytes.extend(value);
    }
    bytes
}

fn country(countries: &Countries, address: &str) -> Option<String> {
    let code = countries.country(address.parse().expect("an address"))?;
    Some(String::from_utf8(code.to_vec()).expect("letters"))
}

#[test]
fn addresses_are_in_the_smallest_network_that_holds_them() {
    let networks =
        [network("10.0.0.0/8", "SE"), network("10.1.0.0/16", "no"), network("2001:db8::/32", "DE")];
    let countries = Countries::from_bytes("x", database(&networks)).expect("a database");
    for (address, expected) in [
        ("10.2.3.4", Some("SE")),
        ("10.1.3.4", Some("NO")),
        ("::ffff:10.1.3.4", Some("NO")),
        ("2001:db8::5", Some("DE")),
        ("11.0.0.1", None),
        ("2001:db9::5", None),
    ] {
        assert_eq!(country(&countries, address).as_deref(), expected, "{address}");
    }
}

#[test]
fn other_makers_name_the_country_elsewhere() {
    let bytes =
        database_of("ipinfo", &[network("10.0.0.0/8", "SE")], |code| map(&[("country_code", text(code))]));
    let countries = Countries::from_bytes("x", bytes).expect("a database");
    assert_eq!(country(&countries, "10.0.0.1").as_deref(), Some("SE"));
}

#[test]
fn what_cannot_be_used_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let absent = folder.path().join("absent.mmdb");
    let message = Countries::open(&absent, None).expect_err("absent").to_string();
    assert!(
        message.contains("absent.mmdb cannot be read (No such file") && message.contains("install"),
        "{message}"
    );

    let whole = database(&[network("10.0.0.0/8", "SE")]);
    let other = database_of("Test-ASN", &[network("10.0.0.0/8", "1")], |_| map(&[("asn", text("1"))]));
    let mut damaged = whole.clone();
    let data = damaged.windows(7).position(|found| found == b"country").expect("there");
    damaged[data - 2..data + 7].fill(0xff);
    for (bytes, reason) in [
        (b"text".to_vec(), "metadata"),
        (whole[..whole.len() - 200].to_vec(), "metadata"),
        (damaged, ""),
        (other, "Test-ASN"),
        (Vec::new(), ""),
    ] {
        let file = folder.path().join("broken.mmdb");
        fs::write(&file, bytes).expect("written");
        let message = Countries::open(&file, None).expect_err("broken").to_string();
        let named =
            message.contains("broken.mmdb is no country database (") && message.contains("get it again");
        assert!(named && message.to_lowercase().contains(&reason.to_lowercase()), "{message}");
    }
}

#[test]
fn a_file_that_has_not_changed_is_not_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("countries.mmdb");
    fs::write(&file, database(&[network("10.0.0.0/8", "SE")])).expect("written");
    let first = Countries::open(&file, None).expect("a database");
    let second = Countries::open(&file, Some(&first)).expect("a database");
    assert!(Arc::ptr_eq(&first, &second));
    fs::write(&file, database(&[network("10.0.0.0/8", "NO"), network("11.0.0.0/8", "NO")])).expect("written");
    let third = Countries::open(&file, Some(&second)).expect("a database");
    assert_eq!(country(&third, "10.0.0.1").as_deref(), Some("NO"));
}

proptest::proptest! {
    #[test]
    fn no_damage_makes_a_look_up_panic(place in 0usize..4096, byte: u8, address: u128) {
        let mut bytes = database(&[network("10.0.0.0/8", "SE"), network("2001:db8::/32", "DE")]);
        let length = bytes.len();
        bytes[place % length] = byte;
        if let Ok(countries) = Countries::from_bytes("x", bytes) {
            let _ = countries.country(IpAddr::V6(address.into()));
            let _ = countries.country("10.0.0.1".parse().expect("an address"));
        }
    }
}
