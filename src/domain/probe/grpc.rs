//! The one message of gRPC health: written and read by hand, because it is one string and one number.
//!
//! Role: the bytes of `grpc.health.v1.Health/Check`. Inputs: a service's name; a bounded body and the trailers of an
//! answer. Outputs: a request body, a verdict. Must never import: a socket, other rooms.

use super::Issue;
use super::response::quote;

/// The path of the call.
pub const PATH: &str = "/grpc.health.v1.Health/Check";
/// Most of an answer that is read: a status is two bytes in a frame of five.
pub const ANSWER_LIMIT: usize = 4 * 1024;
/// The longest name of a service.
pub const LONGEST_SERVICE: usize = 253;

/// The framed request. A name beyond [`LONGEST_SERVICE`] bytes is cut, which parsing does not let happen.
#[must_use]
pub fn request(service: &str) -> Vec<u8> {
    let name: Vec<u8> = service.bytes().take(LONGEST_SERVICE).collect();
    let mut message = Vec::new();
    if !name.is_empty() {
        // Field 1, length-delimited.
        message.push(0x0a);
        varint(name.len(), &mut message);
        message.extend_from_slice(&name);
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

fn varint(mut number: usize, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        out.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return;
        }
    }
}

/// What the server said.
///
/// # Errors
/// If it is anything but SERVING, with the reason as a sentence without a subject.
pub fn judge(status: Option<&[u8]>, message: Option<&[u8]>, body: &[u8]) -> Result<(), (Issue, String)> {
    let said = message.map(quote).filter(|said| !said.is_empty()).map(|said| format!(": {said}")).unwrap_or_default();
    match status {
        Some(b"0") => {}
        Some(b"12") => {
            return Err((
                Issue::NoHealthService,
                "does not implement grpc.health.v1.Health (UNIMPLEMENTED)".to_owned(),
            ));
        }
        Some(b"5") => return Err((Issue::NotServing, format!("does not know the service it was asked about{said}"))),
        Some(code) => {
            let code = quote(code);
            return Err((Issue::NotServing, format!("answered with gRPC status {code}{said}")));
        }
        None => return Err((Issue::Protocol, "answered without a gRPC status".to_owned())),
    }
    match serving(body) {
        Some(1) => Ok(()),
        Some(2) => Err((Issue::NotServing, "says NOT_SERVING".to_owned())),
        Some(3) => Err((Issue::NotServing, "says SERVICE_UNKNOWN".to_owned())),
        Some(0) => Err((Issue::NotServing, "says UNKNOWN".to_owned())),
        Some(other) => Err((Issue::NotServing, format!("says status {other}, which is not one of the protocol"))),
        None => Err((Issue::Protocol, "answered with no message of grpc.health.v1".to_owned())),
    }
}

/// The status in a framed answer: field 1, a number; 0 if it is left out. `None` if it is no such message.
fn serving(body: &[u8]) -> Option<u64> {
    let (head, rest) = body.split_at_checked(5)?;
    let (compressed, length) = head.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    if *compressed != 0 || rest.len() < length {
        return None;
    }
    let mut message = rest.get(..length)?;
    let mut status = 0;
    while !message.is_empty() {
        let key = number(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = number(&mut message)?,
            (0, _) => return None,
            // Fields of later versions are skipped.
            (_, 0) => {
                number(&mut message)?;
            }
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(number(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10_u32 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        // The tenth byte holds one bit only.
        if place == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (place * 7);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
