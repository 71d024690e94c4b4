use proptest::prelude::*;

use super::{BEGIN_2, BadPreamble, Beginning, Origin, PREAMBLE_BYTES_MAX, beginning};

fn client(address: &str) -> Origin {
    Origin::Client(address.parse().unwrap())
}

fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&BEGIN_2[..], &[command, family], &length, body].concat()
}

/// 192.0.2.7:1000 to 198.51.100.1:443, and values.
fn tcp4(values: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 3, 232, 1, 187];
    block(0x21, 0x11, &[&addresses, values].concat())
}

#[test]
fn both_versions_say_for_whom_a_connection_is() {
    let source: [u8; 16] = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let tcp6 = [&source[..], &[0; 16], &[3, 232, 1, 187]].concat();
    let crc = {
        let mut preamble = tcp4(&[3, 0, 4, 0, 0, 0, 0, 4, 0, 1, 9]);
        let sum = crc32c::crc32c(&preamble).to_be_bytes();
        let at = preamble.len() - 8;
        preamble[at..at + 4].copy_from_slice(&sum);
        preamble
    };
    for (bytes, origin) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\r\n".to_vec(), client("192.0.2.7:1000")),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 65535\r\n".to_vec(), client("192.0.2.7:0")),
        (b"PROXY TCP6 2001:db8::7 ::1 1000 443\r\n".to_vec(), client("[2001:db8::7]:1000")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Origin::Peer),
        (b"PROXY UNKNOWN ffff::1 what ever 1 2\r\n".to_vec(), Origin::Peer),
        (tcp4(b""), client("192.0.2.7:1000")),
        (tcp4(&[1, 0, 2, b'h', b'2', 4, 0, 0]), client("192.0.2.7:1000")),
        (crc, client("192.0.2.7:1000")),
        (block(0x21, 0x21, &tcp6), client("[2001:db8::7]:1000")),
        (block(0x21, 0x31, &[b'x'; 216]), Origin::Peer),
        (block(0x20, 0x00, b""), Origin::Peer),
        (block(0x20, 0x11, b"whatever it is"), Origin::Peer),
        (block(0x21, 0x00, b"whatever it is"), Origin::Peer),
    ] {
        let length = bytes.len();
        let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(beginning(&followed), Ok(Beginning::Preamble(origin, length)), "{}", bytes.escape_ascii());
        for part in 0..length {
            assert_eq!(beginning(&bytes[..part]), Ok(Beginning::Partial), "{}", bytes[..part].escape_ascii());
        }
    }
}

#[test]
fn what_begins_like_a_preamble_and_is_none_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1000\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1000 443 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1000 443 1\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1000 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1000 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01000 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1000 443\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 1000 443\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 1000 443\r\n",
        "PROXY TCP4 ::1 ::1 1000 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1000 443\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1000 443\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1000 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY / HTTP/1.1\r\n",
    ] {
        assert_eq!(beginning(line.as_bytes()), Err(BadPreamble::Line), "{line:?}");
    }
    assert_eq!(beginning(&[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat()), Err(BadPreamble::TooLong));
    for (bytes, fault) in [
        (block(0x11, 0x11, &[0; 12]), BadPreamble::Kind),
        (block(0x22, 0x11, &[0; 12]), BadPreamble::Kind),
        (block(0x21, 0x12, &[0; 12]), BadPreamble::Kind),
        (block(0x21, 0x41, &[0; 12]), BadPreamble::Kind),
        (block(0x21, 0x01, &[0; 12]), BadPreamble::Kind),
        (block(0x21, 0x11, &[0; 11]), BadPreamble::Length),
        (block(0x21, 0x21, &[0; 35]), BadPreamble::Length),
        (block(0x21, 0x31, &[0; 12]), BadPreamble::Length),
        (tcp4(&[1]), BadPreamble::Length),
        (tcp4(&[1, 0]), BadPreamble::Length),
        (tcp4(&[1, 0, 2, 0]), BadPreamble::Length),
        (tcp4(&[3, 0, 3, 0, 0, 0]), BadPreamble::Length),
        (tcp4(&[3, 0, 4, 1, 2, 3, 4]), BadPreamble::Checksum),
        (block(0x21, 0x11, &[0; PREAMBLE_BYTES_MAX]), BadPreamble::TooLong),
        (block(0x20, 0x00, &[0; PREAMBLE_BYTES_MAX]), BadPreamble::TooLong),
    ] {
        assert_eq!(beginning(&bytes), Err(fault), "{}", bytes[..bytes.len().min(60)].escape_ascii());
    }
}

#[test]
fn what_begins_like_http_or_tls_is_something_else() {
    for bytes in
        ["GET /", "P /", "PR /", "PROPFIND /", "PRI * HTTP/2.0", "\r\nGET", "\r\n\r\nG", "\x16\x03\x01"]
    {
        assert_eq!(beginning(bytes.as_bytes()), Ok(Beginning::Other), "{bytes:?}");
    }
}

proptest! {
    /// A verdict stands however much follows, and none is given on less than a preamble.
    #[test]
    fn arbitrary_bytes_have_one_verdict(
        begin in prop_oneof![Just(b"PROXY ".to_vec()), Just(BEGIN_2.to_vec()), Just(tcp4(&[])), Just(vec![])],
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0_usize..300,
    ) {
        let whole = [begin, bytes].concat();
        let part = &whole[..cut.min(whole.len())];
        match beginning(part) {
            Ok(Beginning::Partial) => {}
            Ok(Beginning::Preamble(origin, length)) => {
                prop_assert!(length <= part.len());
                prop_assert_eq!(beginning(&whole), Ok(Beginning::Preamble(origin, length)));
            }
            verdict => prop_assert_eq!(beginning(&whole), verdict),
        }
    }
}
