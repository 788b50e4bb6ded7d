use super::*;

const VRRP3: [u8; 12] = [0x31, 0x33, 0x96, 0x01, 0x00, 0x0a, 0xd3, 0xcb, 192, 0, 2, 100];

fn packet() -> ip::Packet<'static> {
    let (source, destination) = ([192, 0, 2, 1].into(), [224, 0, 0, 18].into());
    ip::Packet { source, destination, hop_limit: 255, protocol: 112, payload: &VRRP3 }
}

#[test]
fn an_advertisement_needs_protocol_112_and_ttl_255() {
    assert!(matches!(parse_advertisement(&packet()), Ok(Message::Vrrp(_))));
    assert_eq!(parse_advertisement(&ip::Packet { protocol: 17, ..packet() }), Err(Error::Protocol));
    assert_eq!(parse_advertisement(&ip::Packet { hop_limit: 254, ..packet() }), Err(Error::HopLimit));
}

#[test]
fn the_ttl_of_an_advertisement_to_a_single_address_is_left_to_the_receiver() {
    let destination = std::net::IpAddr::from([192, 0, 2, 2]);
    let Ok(Message::Vrrp(advert)) = parse_advertisement(&packet()) else { unreachable!("it is one") };
    let payload = advert.emit([192, 0, 2, 1].into(), destination);
    let unicast = ip::Packet { destination, hop_limit: 63, payload: &payload, ..packet() };
    assert_eq!(parse_advertisement(&unicast), Ok(Message::Vrrp(advert)));
}

#[test]
fn the_names_of_the_reasons_are_unique_words() {
    use Error as E;
    let all = [
        E::Address,
        E::AddressCount,
        E::ArpFormat,
        E::CarpAuthLength,
        E::Checksum,
        E::Family,
        E::HopLimit,
        E::IdZero,
        E::IpChecksum,
        E::IpFragment,
        E::IpHeader,
        E::IpLength,
        E::IpTruncated,
        E::IpVersion,
        E::Length,
        E::NoAddress,
        E::Protocol,
        E::Truncated,
        E::Type,
        E::Version,
    ];
    let names: std::collections::BTreeSet<&str> = all.iter().map(|error| error.name()).collect();
    assert_eq!(names.len(), all.len());
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase())));
}

#[test]
fn a_mac_prints_as_people_write_it() {
    assert_eq!(Mac([0, 0, 0x5e, 0, 1, 0x33]).to_string(), "00:00:5e:00:01:33");
}
