//! Addresses in their compressed form (RFC 5952), as Python's `ipaddress` writes them.

use crate::json::{Odd, Sure};

/// The address that a text is, compressed; 4 or 6. Zones, embedded IPv4 and `::x` are odd: not every version of Python
/// writes those alike.
pub fn compress(text: &[u8], into: &mut Vec<u8>) -> Sure<i64> {
    into.clear();
    if text.contains(&b':') {
        write(&groups(text)?, into);
        return Ok(6);
    }
    let mut octets = 0;
    for octet in text.split(|&byte| byte == b'.') {
        let plain = matches!(octet, [b'0'] | [b'1'..=b'9', ..]) && octet.len() <= 3;
        if !plain || !octet.iter().all(u8::is_ascii_digit) {
            return Err(Odd);
        }
        let value = octet
            .iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        octets += 1;
        if value > 255 {
            return Err(Odd);
        }
    }
    if octets != 4 {
        return Err(Odd);
    }
    into.extend_from_slice(text);
    Ok(4)
}

fn groups(text: &[u8]) -> Sure<[u16; 8]> {
    if text.len() > 39
        || !text
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || *byte == b':')
    {
        return Err(Odd);
    }
    let text = std::str::from_utf8(text).map_err(|_| Odd)?;
    let address: std::net::Ipv6Addr = text.parse().map_err(|_| Odd)?;
    let groups = address.segments();
    if groups[..5] == [0; 5] {
        return Err(Odd);
    }
    Ok(groups)
}

fn write(groups: &[u16; 8], into: &mut Vec<u8>) {
    let (begin, end) = longest_run_of_zeros(groups);
    for (index, group) in groups.iter().enumerate() {
        if (begin..end).contains(&index) {
            if index == begin {
                into.extend_from_slice(if index == 0 { b"::" } else { b":" });
            }
            continue;
        }
        for shift in [12, 8, 4, 0] {
            if shift == 0 || group >> shift != 0 {
                into.push(b"0123456789abcdef"[usize::from(group >> shift & 15)]);
            }
        }
        if index < 7 {
            into.push(b':');
        }
    }
}

/// Where the first longest run of two or more zero groups begins and ends; an empty range when there is none.
fn longest_run_of_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let mut longest = (0, 0);
    let mut begin = 0;
    for (index, &group) in groups.iter().enumerate() {
        if group != 0 {
            begin = index + 1;
        } else if index + 1 - begin >= 2 && index + 1 - begin > longest.1 - longest.0 {
            longest = (begin, index + 1);
        }
    }
    longest
}
