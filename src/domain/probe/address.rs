//! Which addresses are never asked.
//!
//! Role: the last word before a connection is opened, whatever named the address. Inputs: an address. Outputs: why it is
//! refused, or nothing. Names are never resolved, so no answer of DNS can lead around it. Must never import: a socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where clouds hand out credentials, beside the link-local addresses that are refused as a whole.
const METADATA_V4: &[Ipv4Addr] = &[
    // Azure's wire server, Alibaba Cloud, Oracle Cloud.
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

const METADATA_V6: &[Ipv6Addr] = &[
    // Amazon's (address, DNS, time), Google's, Scaleway's, Oracle's.
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x123),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42),
    Ipv6Addr::new(0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// Why an address is not asked; `None` if it may be.
#[must_use]
pub fn refuse(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refuse_v4(address),
        IpAddr::V6(address) => refuse_v6(address),
    }
}

fn refuse_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = address.octets();
    if address == Ipv4Addr::new(169, 254, 169, 254) || METADATA_V4.contains(&address) {
        Some("it is a metadata address")
    } else if address.is_loopback() {
        Some("it is a loopback address")
    } else if address.is_link_local() {
        Some("it is a link-local address")
    } else if first == 0 {
        Some("it is an unspecified address")
    } else if address.is_multicast() {
        Some("it is a multicast address")
    } else if address.is_broadcast() {
        Some("it is the broadcast address")
    } else if first >= 240 {
        Some("it is a reserved address")
    } else {
        None
    }
}

fn refuse_v6(address: Ipv6Addr) -> Option<&'static str> {
    if METADATA_V6.contains(&address) {
        return Some("it is a metadata address");
    }
    if address.is_loopback() {
        return Some("it is a loopback address");
    }
    if address.is_unspecified() {
        return Some("it is an unspecified address");
    }
    if address.is_multicast() {
        return Some("it is a multicast address");
    }
    if address.is_unicast_link_local() {
        return Some("it is a link-local address");
    }
    if address.segments().starts_with(&[0x2001, 0]) {
        return Some("it is a Teredo address, which hides another one");
    }
    embedded_v4(address).and_then(refuse_v4)
}

/// The IPv4 address that a system may connect to in its place: mapped, compatible, NAT64 or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at =
        |from: usize| octets.get(from..from + 4).and_then(|four| <[u8; 4]>::try_from(four).ok()).map(Ipv4Addr::from);
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, ..] => at(12),
        [0x2002, ..] => at(2),
        _ => None,
    }
}
